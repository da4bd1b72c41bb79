// Package uplink sends the frames of an edge's log to the hub until they are
// safe there. Nothing in between is relied upon: any broker may lose, repeat or
// reorder messages, and a publish that succeeded proves nothing. Only the hub's
// acknowledgements move the log's safe place.
//
//	u, err := uplink.New(uplink.Config{URL: "mqtt://hub:1883", Edge: "lac-duong-01", ...}, log)
//	err = u.Run(ctx) // until ctx ends, whatever the network does
//
// What is sent and when is decided by a state machine without a clock, a network
// or goroutines of its own (type session); Run feeds it with connections,
// acknowledgements and the time, and publishes what it wants said. docs/uplink.md
// describes the protocol.
//
// The states of the session:
//
//	offline    no connection
//	greeting   a hello was sent; only its answer says where the hub stands
//	streaming  schemas, gaps and frames go out within the hub's credit
//	held       the hub refuses (clock, fork, clone, version): the log is kept, a
//	           hello asks again from time to time
package uplink
