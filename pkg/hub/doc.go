// Package hub is the centre: it takes the frames of all edges, stores their
// readings, judges them by the rules, and serves alerts and data.
//
//	bus -> ingest -> tsdb
//	             \-> rules -> ledger (alert log, checkpoints) -> api
//
// Everything the hub holds is derived from the logs of the edges: when it
// starts it says how far it has got, and they send from there. See
// docs/architecture.md.
//
// [Main] is the whole program: cmd/hub only calls it. Several hubs can live in
// one process; nothing here is global.
package hub
