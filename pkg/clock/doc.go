// Package clock keeps log time: the time that readings and watermarks carry.
//
// A gateway often has no battery clock. It boots in 1970, or at the time of
// its last shutdown, and jumps when the network comes up; it may be set wrong
// and be put right years later. So log time is not the system's clock. It is
// the time since boot, which nothing can set, plus an offset that this
// package looks after:
//
//   - Until the offset is known the clock is not trusted, and Now gives the
//     bare milliseconds since boot. Together with the boot id that is enough
//     to correct the readings afterwards, by OffsetOfBoot.
//   - It becomes trusted when the kernel says that the system's clock is
//     synchronised, or when the hub has told its time (ObserveHub). It stays
//     trusted, on the offset it has, when both go away.
//   - While trusted, corrections below Options.Step are slewed, by one part in
//     a hundred at most, so that time neither stands still nor goes back.
//   - A larger correction is a step: the era's number goes up and time goes on
//     from the new place, be it earlier or later. Becoming trusted is a step too.
//
// Within an era time never goes backward; nothing should be compared across.
//
//	src, err := clock.System()
//	c := clock.New(src, clock.Options{})
//	go c.Run(ctx)
//	now := c.Now()
//
// The rules are in core, a value that is told the time and has none of its
// own; Clock gives it a Source and a mutex.
package clock
