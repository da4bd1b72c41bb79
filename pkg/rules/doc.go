// Package rules reads rule files and evaluates them on the readings of edges,
// in event time: what it finds depends on the readings and their times alone,
// not on when they came, how they were cut into frames, or how often the hub was
// restarted in between.
//
//	set, err := rules.Load(sources, env)        // every fault with file:line:col
//	engine := rules.NewEngine([]rules.Effective{{Set: set}}, emit)
//	fold, err := engine.Open("lac-duong-01", saved) // saved: from the last checkpoint, or nil
//	fold.Bind(series)                           // whenever the edge's schema changes
//	fold.Observe(3, t, 57.2, quality)           // on time readings, in order for each series
//	fold.Advance(watermark)                     // timers fire on the watermark
//	saved = fold.Save(nil)                      // into the checkpoint
//
// # What is judged
//
// Every kind of rule is one number on one ladder. The number (x) is the reading, or
// what is made of the readings before: an aggregate or a rate over a sliding
// window, an index of hourly means, for how long a value has stood still or no
// reading has come, how bad a state is. It changes at readings and, for windows and
// silence, by itself at a known time, which waits in the same queue as the delays.
// The ladder says which levels are over at x; a machine keeps the interval of x in
// which nothing changes, so that nearly every reading costs two comparisons.
//
// Rules of kind several judge how many alerts of other rules stand at once. They
// are a fold over the alerts of all edges, put in order of event time, up to the
// smallest watermark: see gather.
//
// # How a series is judged
//
// A rule's ladder has up to four levels. Each is a switch with hysteresis, an
// on-delay and an off-delay, in this order: the switch goes over when the value
// passes limit, and back when it reaches clear; the level becomes active when
// its switch has been over for the time `for`, and inactive when it has been
// back for `clear_for`. Between clear and limit a switch stays as it is, so a
// delay runs on there. An alert is active while any level is; its severity is
// that of the highest. While a level is active those below it count as active.
//
// The limits and clear limits of a ladder rise with the severity, so both
// what is over and what is active are one number each, 0 to the number of levels.
//
// # Time
//
// A delay that began at T ends at exactly T + delay. A reading at the very end
// comes first, whatever order they are heard of in. So a delay ends when
// a reading of the series after that time arrives, or when the watermark reaches
// it: both mean that no earlier reading is still to come. For a series whose
// device stamps its own readings the watermark lags by MaxLag.
//
// A bad reading changes nothing, unless the rule says otherwise: the last good
// value holds, and delays run on.
// An uncertain one is judged like a good one. An unobserved interval (the agent
// was stopped or stalled) ends held values: delays do not cross it and begin
// anew with the next reading; an active alert stays until a reading says
// otherwise. A new era of the edge's clock does the same, and time starts over.
//
// A rule set holds from an event time on. Each series changes over there: delays
// due before end before; alerts of rules that are gone or judge otherwise end at
// that time, with the reason "rule changed"; rules with the same id and version
// keep their state. A rule's version names how it judges one series: kind,
// quantity, ladder, schedule and what odd readings do. Messages, links, labels and `where` are no part of it:
// changing them ends no alert, except those of series no longer watched.
//
// # Chattering
//
// A rule that is raised three times within a minute for a series chatters: that
// alert stays active, marked chattering, and collapses what follows, until no
// activation has come for a minute; then it ends, or goes on without the mark
// when its condition holds. It happens here and not where alerts are shown
// because its end is a timer on the watermark like any other delay: only so is
// it the same in every replay. See chatter.go.
//
// # Concurrency
//
// A [Set] is read-only. An [Engine] is safe for concurrent use. A [Fold]
// belongs to one goroutine at a time; the folds of an engine may run at once,
// and then call emit at once.
package rules
