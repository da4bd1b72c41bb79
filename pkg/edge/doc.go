// Package edge is the agent that runs on a gateway. It reads edge.yaml, opens
// the log, starts a driver for each connection, cuts what they read into frames,
// commits the frames to the log, and lets the uplink carry them to the hub.
//
//	drivers -> collector -> frame (wire) -> log (buffer) -> uplink ~~ MQTT ~~> hub
//
// The path has one owner at each step. Drivers call the [collector] from their
// own goroutines; it stamps and keeps readings under one lock. One goroutine
// cuts frames every hub.send_every and commits every buffer.commit_every. The
// uplink reads the log at its own pace.
//
// [Main] is the whole program: cmd/edge only calls it. Several agents can live
// in one process; nothing here is global.
package edge
