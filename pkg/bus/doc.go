// Package bus is the hub's ear: an embedded NATS server whose MQTT listener the
// edges connect to, and the hub's own connection to it, inside the process.
//
//	b, err := bus.Open(bus.Config{Listen: "127.0.0.1:1883", DataDir: dir}, logger, nil)
//	err = b.Subscribe(func(edge, kind string, payload []byte) { ... })
//	err = b.Publish("lac-duong-01", "ack", payload)
//	err = b.Close()
//
// An MQTT topic langbiang/v1/EDGE/KIND is the NATS subject langbiang.v1.EDGE.KIND.
// Edges publish the kinds frame, hello, snapshot, state, config-state and answer; the
// hub publishes ack, config and ask. Who may do what is decided by permissions on each
// connection: a client may publish those of edges alone and may subscribe to ack,
// config, ask and state alone, of the edge that it was authenticated as, or of every edge as long
// as no [Authenticator] is given.
//
// Beside these stand the topics langbiang/alerts/..., which the hub alone publishes,
// as a client of its own listener ([Bus.Speaker]), and which clients may hear that
// are no edge's. What is retained there is published anew at every start.
//
// # What the bus promises
//
// Nothing, on purpose. Messages are QoS 0 and may be lost or arrive twice; the
// log of the edge and the acknowledgements of the hub make good for it. In
// exchange nothing in here grows without bound: a message above MaxPayload
// disconnects its sender, a client that does not read its acknowledgements is
// disconnected, and when the handler is too slow the messages that do not fit
// into PendingBytes are dropped and counted.
//
// # What it writes
//
// MQTT wants retained messages and sessions kept, so the server has a small store
// in DataDir. Nothing in it is needed: it may be deleted while the hub is down.
// The folder is locked, [ErrInUse] says that another process has it.
//
// # Concurrency
//
// All methods may be called from any goroutine. The handler is called from one
// goroutine, in the order in which the messages of one edge arrived. Several buses
// may live in one process; nothing here is global, no signal is handled and no
// port is opened but the one of Listen. Close waits for the goroutines of the
// server that it can wait for: after it returns, timers of the server that are on
// their way out may live for a moment longer.
package bus
