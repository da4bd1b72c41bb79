// Package fleet is the hub's side of the configurations of edges: what each is to run,
// what it says it runs, and what is to be sent.
//
//	f, err := fleet.Open(fleet.Config{Store: ledger, Publish: ..., Connected: ...})
//	v, err := f.Set("lac-duong-01", fleet.Setting{Name: "a.yaml", Text: text, Who: "lan"})
//	f.Receive("lac-duong-01", payload) // of the topic config-state
//	err = f.Run(ctx)
//
// A configuration is set as a new version of its edge, numbered from 1; the text is
// never changed afterwards. It is sent whenever the edge says that it runs something
// else and has not decided about this one, and again until it has: messages may be
// lost, repeated and reordered. An edge takes no version that is not higher than all
// that it has decided on. So a hub that was restored from a backup, whose numbers are
// behind, does not take an edge back: it shows [Unknown], and the next version that is
// set is numbered above what the edge has said.
//
// # What is kept
//
// Records of the store, each JSON with a format version: of kind "config" the versions
// of an edge, the newest [MaxVersions] of them; of kind "configtext" the text of each
// (EDGE/VERSION), compressed; of kind "configstate" what the edge said last. A version
// is on disk before Set returns and before it is sent.
//
// # Concurrency
//
// All methods may be called from any goroutine. Receive does not block: what does not
// fit into its queue, or comes faster than one a second from an edge for long, is
// dropped, and the edge says it again.
package fleet
