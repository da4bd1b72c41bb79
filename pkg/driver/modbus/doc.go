// Package modbus reads devices over Modbus TCP, RTU, ASCII, and RTU or ASCII
// through a transparent TCP converter. One connection is one bus with one
// owner: a goroutine that alone talks on it, so that replies can never be given
// to the wrong question and nothing collides on an RS-485 pair.
//
//	cfg := &modbus.Config{Transport: "tcp", Address: "10.0.0.5"}
//	cfg.ApplyDefaults()
//	d, err := cfg.New("cabinet", devices, env)
//	err = d.Run(ctx) // until ctx ends
//
// # Layers
//
//	bus        owner of the connection: takes turns, gives samples to the sink
//	 schedule  who is next: slots on a grid, budgets for those that fail (pure)
//	 blocks    the requests of a device, and what it taught us of them (pure)
//	 line      opens and closes, one question at a time
//	  client   goburrow/modbus: builds and takes apart the PDUs
//	  link     our Transporter: deadlines, stale replies, resynchronisation
//	   framing TCP (MBAP), RTU, ASCII (pure, fuzzed)
//
// goburrow/modbus brings the client only. Its own transports never recover: a
// late TCP reply puts every later transaction id off by one, RTU does not flush
// its input and takes an exception for a CRC error, and none can be cancelled.
// goburrow/serial is not used either: it can neither flush the input queue nor
// set a deadline for one read, and it waits with select, which does not work
// for descriptors above 1023. A serial port is opened with golang.org/x/sys and
// handed to the runtime's poller as an [os.File], which has deadlines.
//
// # Time on the bus
//
// Every device has a grid of slots, one per interval, with a phase of its own,
// so that the polls of a bus are spread over the interval. A poll that is late
// does not move the grid. On Modbus TCP, where nobody else waits for the line, the
// phases are multiples of 100 ms and the polls of each are made one after another:
// waking costs a small gateway more than a poll does, and this is the difference
// between 2.7 and 0.6 % of a core for 100 polls a second. One request is one turn; the turn goes to the poll
// whose next slot is nearest (earliest deadline first), so a device that is
// read every second is not held up by one with many blocks that is read every
// minute. A slot that could not be used before the next one began is given up
// and counted: nothing queues.
//
// A device that does not answer is retried after its neighbours had their turn,
// and pays for the time by which it held them up from a budget: its equal part
// of the bus's time, or 5 % where there are more than twenty. While the budget
// is used up its slots are passed over. After three failed polls it is benched:
// it is probed at growing intervals (at most a minute), and all probes of a bus
// together take no more than 5 % of its time. While nobody else needs the bus a
// failed question costs nothing, and a dead device is asked at each of its slots.
//
// # What reaches the sink
//
// Every slot of a device that is not given up yields one sample per point that
// is due in it, and one Status. Samples are put when the reply came, block by
// block. A point whose block failed, or whose device is not being asked, gets a
// sample of bad quality with the reason:
//
//	no_answer    nothing came in time; or a gateway says so (exception 11)
//	unreachable  the port is missing, the address refuses, the connection broke
//	exception    the device refused; its number and name stand in the detail
//	bad_frame    what came was damaged: CRC, length, wrong unit or function
//
// # Writing
//
// A write (see [driver.Writer]) is one turn of the owner, between two requests of
// the polls: the write itself, with function 5 or 6, or 15 or 16 where a value is
// wider or the profile says multiple, and the reading back. It is sent once. When
// no answer comes the reading back decides: holds the device what was written, it
// was written; can nobody say, the error is driver.ErrInDoubt.
//
// # Blocks
//
// [Plan] merges the points of a device into the fewest requests that its limits
// allow. A block that the device refuses as a whole (illegal data address, or
// illegal data value, which some give for too long a block) is cut in two,
// first at its widest hole, until the points that are at fault stand alone.
// What was learnt holds until Run returns. A point that is refused by itself is
// asked again at growing intervals, up to ten minutes: maps of some devices
// change with their configuration.
package modbus
