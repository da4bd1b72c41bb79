// Package ingest folds the logs of the edges into the hub: it receives their
// messages, puts them in order, drops what it has already, appends the readings
// to the store, lets the rules look at them, and tells the edges how far it has
// got.
//
//	g, err := ingest.New(ingest.Config{...}, ingest.Parts{Store: store, Rules: rules, Ledger: ledger, ...})
//	err = bus.Subscribe(g.Receive)
//	err = g.Run(ctx)
//
// # One position per edge
//
// An edge's log is one line: epochs in the order of their start counts, frames by
// number. The hub keeps one place on it, and takes the frame that follows and no
// other. What is at or before the place is a duplicate and dropped; what comes too
// early is dropped as well, and the edge is told to send again from the place (a
// hole). So nothing between the two has to be reliable, and nothing is counted
// twice. Package-internal type line has the rules, and tells the two accidents
// that must stop an edge: fork (the line goes on from two ends, because a disk
// image was restored) and clone (two installations under one id).
//
// # Got and safe
//
// A frame is got once its readings are in the store's batch and the rules have
// seen them. Every second a checkpoint makes all of that durable, in this order:
// each worker commits its batch and hands in the places, the quality states and
// the rule states of the edges that changed; the store is synced; the ledger
// writes the list in one transaction; then the edges hear that they are safe up to
// there. After a crash everything begins at the last checkpoint, and the edges are
// told so when they say hello.
//
// An error of the store or the ledger ends Run and is never retried: what was got
// and not yet safe comes again from the edges, to a new Ingest.
//
// # On time and late
//
// A frame says: all readings up to W are in here or before. Its readings with a
// time in (PrevW - MaxLag, W - MaxLag] are on time: they are stored under the
// series' labels and shown to the rules, in ascending time for each series. All
// others are late: stored under the further label late="1", and not evaluated.
// Marks and gaps are told to the rules as unobserved intervals, at their place
// between the readings. A bad reading is stored as a staleness marker, once; the
// quality of a series is itself a series, reading_quality, with a sample at every
// change; a series that has been good from its beginning has none.
//
// # Concurrency
//
// [Ingest.Receive] never blocks and may be called from any goroutine; messages of
// one edge should come from one. Edges are divided among workers; each worker is
// one goroutine and owns its edges, their rule state and a batch of the store, so
// no lock is taken per reading. Each edge has a lane before its worker; lanes of
// live edges come first, and backlogs leave a worker time while there are any.
// Lanes are bounded in messages and bytes: what does not fit is dropped and
// counted, and comes again, because it was not acknowledged. The methods that show
// state may be called at any time.
package ingest
