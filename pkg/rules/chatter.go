package rules

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// A rule that is raised for a series chatterCount times within chatterWindow
// chatters. That alert collapses what follows: it stays active, marked
// chattering, with a count of the activations, until none has come for
// chatterWindow. If the condition is back by then, the alert ends at that time;
// if it holds, the alert goes on without the mark. So chattering works like an
// off-delay that comes by itself. It is the last stage of a fold, between what
// the machines find and what is told: a function of their transitions, of the
// watermark, and of the unobserved intervals, which it does not cross.
const (
	chatterCount  = 3
	chatterWindow = int64(time.Minute / time.Millisecond)
)

type chatterKey struct {
	rule, version string
	series        seriesName
}

// chatterState is what is remembered of a rule on a series that was raised
// within the window, or whose alert stands in for those it collapsed.
type chatterState struct {
	Recent  []int64     // activations within the window, while it does not chatter
	Last    int64       // newest activation
	Count   int         // activations that the alert stands for
	On      bool        // chattering
	Resting bool        // chattering, and the condition is back
	Told    *toldAlert  // the alert that stands for what follows it; nil before it chatters
	Raw     alert.Alert `json:",omitzero"` // as the machine found it last, while Told is not nil
	lag     int64
}

// toldAlert is what an alert keeps while it collapses others.
type toldAlert struct {
	ID           string
	Start, Onset time.Time
	Severity     alert.Severity // the worst while it chatters
	Level        *alert.Level   // with it
	Limit, Peak  float64
	Message      telemetry.Text
}

type chatter struct {
	by   map[chatterKey]*chatterState
	next int64 // no state has anything due before the watermark is here
}

// due is when the window after the newest activation ends; never when nothing
// waits for it.
func (st *chatterState) due(window int64) int64 {
	if st.Told != nil && !st.On {
		return never
	}
	return st.Last + window
}

// as is the told alert when the machine has found a. The rule is nil when a has
// been found before.
func (st *chatterState) as(a alert.Alert, r *rule) alert.Alert {
	t := st.Told
	if r != nil && len(r.levels) > 0 && (r.source == ofState || r.worse(a.Peak) > r.worse(t.Peak)) {
		t.Peak = a.Peak
	}
	a.ID, a.Start, a.Onset, a.Peak = t.ID, t.Start, t.Onset, t.Peak
	a.Chattering, a.Activations = st.On, st.Count
	if st.On && alert.Below(a.Severity, a.Level, t.Severity, t.Level) {
		a.Severity, a.Level, a.Limit, a.Message = t.Severity, t.Level, t.Limit, t.Message
	}
	t.Severity, t.Level, t.Limit, t.Message = a.Severity, a.Level, a.Limit, a.Message
	return a
}

// present tells a transition that a machine of the series has found, or
// collapses it.
func (f *Fold) present(s *series, r *rule, t alert.Transition) {
	key := chatterKey{r.id, r.version, nameOf(s.bound)}
	st := f.chatter.by[key]
	if st != nil {
		f.windowEnds(key, st, t.Time.UnixMilli()-1)
		st = f.chatter.by[key]
	}
	if st == nil {
		if t.Kind != alert.Raised || r.apart || f.engine.chatter <= 0 {
			f.hand(t)
			return
		}
		st = &chatterState{}
		if f.chatter.by == nil {
			f.chatter.by = map[chatterKey]*chatterState{}
		}
		f.chatter.by[key] = st
	}
	st.lag = s.lag
	f.chattered(key)
	if t.Kind == alert.Raised {
		f.activated(st, r, &t)
		return
	}
	if st.Told == nil {
		f.hand(t)
		return
	}
	st.Raw = t.Alert
	switch was := *st.Told; {
	case t.Kind == alert.Ended && (t.Alert.Reason != "" || !st.On):
		t.Alert = st.as(t.Alert, r)
		t.Alert.Chattering = false
		delete(f.chatter.by, key)
		f.hand(t)
	case t.Kind == alert.Ended:
		st.Resting = true
		st.as(t.Alert, r)
	default:
		if t.Alert = st.as(t.Alert, r); !st.On || alert.Below(was.Severity, was.Level, t.Alert.Severity, t.Alert.Level) {
			f.hand(t)
		}
	}
}

// hand hands a transition on. What happens after log time has stepped back counts,
// for rules of kind several, from where it had been; and what ends because nobody
// looks any more, or a series is gone, after what has been said to be all.
func (f *Fold) hand(t alert.Transition) {
	if first := max(f.floor, f.counted+1, f.broken); t.Time.UnixMilli() < first {
		counted := at(first)
		t.Counted = &counted
	}
	f.engine.tell(t)
}

// activated counts an activation and tells it, alone or as part of the alert
// that chatters.
func (f *Fold) activated(st *chatterState, r *rule, t *alert.Transition) {
	at := t.Time.UnixMilli()
	st.Last = at
	f.chatter.next = min(f.chatter.next, at+f.engine.chatter+st.lag)
	if st.On {
		st.Count++
		st.Resting, st.Raw = false, t.Alert
		was := *st.Told
		t.Alert = st.as(t.Alert, r)
		switch {
		case t.Alert.Severity > was.Severity:
			t.Kind = alert.SeverityChanged
		case alert.Below(was.Severity, was.Level, t.Alert.Severity, t.Alert.Level):
			t.Kind = alert.LevelChanged
		case bits.OnesCount(uint(st.Count)) == 1:
			t.Kind = alert.Chattered // at 4, 8, 16 ...: the log grows with the logarithm
		default:
			return
		}
		f.hand(*t)
		return
	}
	st.Recent = append(slices.DeleteFunc(st.Recent, func(x int64) bool { return x < at-f.engine.chatter }), at)
	if len(st.Recent) >= chatterCount {
		a := &t.Alert
		st.On, st.Count, st.Recent, st.Raw = true, len(st.Recent), nil, *a
		st.Told = &toldAlert{a.ID, a.Start, a.Onset, a.Severity, a.Level, a.Limit, a.Peak, a.Message}
		t.Alert = st.as(t.Alert, r)
	}
	f.hand(*t)
}

// windowEnds lets a window take effect that ended at or before t.
func (f *Fold) windowEnds(key chatterKey, st *chatterState, t int64) {
	if end := st.due(f.engine.chatter); end <= t {
		f.calm(key, st, end)
	}
}

// calm ends chattering at t, and forgets what came before.
func (f *Fold) calm(key chatterKey, st *chatterState, t int64) {
	f.chattered(key)
	if !st.On {
		if st.Told == nil {
			delete(f.chatter.by, key)
		}
		return
	}
	tr := alert.Transition{Kind: alert.Calmed, Time: at(t)}
	if st.Resting {
		tr.Kind = alert.Ended
		tr.Alert = st.as(st.Raw, nil)
		tr.Alert.State, tr.Alert.Chattering = alert.Cleared, false
		tr.Alert.End = &tr.Time
		delete(f.chatter.by, key)
	} else {
		st.On = false
		tr.Alert = st.as(st.Raw, nil)
	}
	tr.Alert.Updated = tr.Time
	f.hand(tr)
}

// interrupt ends chattering of the machine's rule at t, where an unobserved
// interval begins.
func (f *Fold) interrupt(s *series, m *machine, t int64) {
	if len(f.chatter.by) == 0 {
		return
	}
	r := s.set.rules[m.rule]
	key := chatterKey{r.id, r.version, nameOf(s.bound)}
	if st := f.chatter.by[key]; st != nil {
		f.windowEnds(key, st, t)
		if f.chatter.by[key] != nil {
			f.broken = t + 1
			f.calm(key, st, t)
			f.broken = math.MinInt64
		}
	}
}

// dismiss forgets a rule that no longer watches the series, at t, and ends for
// this reason what it has resting. Its active alert has ended already.
func (f *Fold) dismiss(name seriesName, rule, version string, t int64, reason string) {
	key := chatterKey{rule, version, name}
	st := f.chatter.by[key]
	if st == nil {
		return
	}
	f.windowEnds(key, st, t-1)
	if f.chatter.by[key] == nil {
		return
	}
	delete(f.chatter.by, key)
	f.chattered(key)
	if st.On {
		a := st.as(st.Raw, nil)
		a.State, a.Chattering, a.Reason, a.Updated = alert.Cleared, false, reason, at(max(t, st.Last))
		a.End = &a.Updated
		f.hand(alert.Transition{Kind: alert.Ended, Time: a.Updated, Alert: a})
	}
}

// endWindows ends the windows that the watermark has passed, earliest first.
func (f *Fold) endWindows() {
	if f.chatter.next > f.w {
		return
	}
	var due []chatterKey
	for key, st := range f.chatter.by {
		if d := st.due(f.engine.chatter); d != never && d+st.lag <= f.w {
			due = append(due, key)
		}
	}
	slices.SortFunc(due, func(a, b chatterKey) int {
		return cmp.Or(cmp.Compare(f.chatter.by[a].Last, f.chatter.by[b].Last), a.compare(b))
	})
	for _, key := range due {
		f.windowEnds(key, f.chatter.by[key], f.w)
	}
	f.nextWindow()
}

func (f *Fold) nextWindow() {
	f.chatter.next = never
	for _, st := range f.chatter.by {
		if d := st.due(f.engine.chatter); d != never {
			f.chatter.next = min(f.chatter.next, d+st.lag)
		}
	}
}

// rebindChatter takes over the lags of the series that have just been bound, and
// dismisses what belongs to no rule and series of theirs.
func (f *Fold) rebindChatter() {
	if len(f.chatter.by) == 0 {
		return
	}
	names := make(map[seriesName]int, len(f.series))
	for i := len(f.series) - 1; i >= 0; i-- { // of equal names the first is judged
		names[nameOf(f.series[i].bound)] = i
	}
	for _, key := range f.chatterKeys() {
		i, ok := names[key.series]
		if !ok {
			f.dismiss(key.series, key.rule, key.version, f.w, ReasonSeriesRemoved)
			continue
		}
		s := &f.series[i]
		f.chatter.by[key].lag = s.lag
		r := &rule{id: key.rule, version: key.version}
		if s.set == nil || find(s.machines, s.set, r) < 0 {
			reason := ReasonRuleChanged
			if s.set != nil {
				reason = endReason(s.set, r, "")
			}
			f.dismiss(key.series, key.rule, key.version, f.now(s), reason)
		}
	}
	f.nextWindow()
}

func (a chatterKey) compare(b chatterKey) int {
	return cmp.Or(strings.Compare(a.series.device, b.series.device), strings.Compare(a.series.point, b.series.point),
		strings.Compare(a.rule, b.rule), strings.Compare(a.version, b.version))
}

func (f *Fold) chatterKeys() []chatterKey {
	keys := make([]chatterKey, 0, len(f.chatter.by))
	for key := range f.chatter.by {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, chatterKey.compare)
	return keys
}

// chattered says that there is something new to save of the key.
func (f *Fold) chattered(key chatterKey) {
	f.dirty = true
	if f.journal.chatters == nil {
		f.journal.chatters = map[chatterKey]bool{}
	}
	f.journal.chatters[key] = true
}

// savedChatter is a chatterState with its key, as JSON in the saved state; without
// a state it is forgotten.
type savedChatter struct {
	Rule, Version, Device, Point string
	State                        *chatterState
}

// appendChatter writes what is new of what chatters, or all of it.
func (f *Fold) appendChatter(dst []byte, whole bool) []byte {
	keys := f.chatterKeys()
	if !whole {
		keys = slices.SortedFunc(maps.Keys(f.journal.chatters), chatterKey.compare)
	}
	dst = binary.AppendUvarint(dst, uint64(len(keys)))
	for _, key := range keys {
		data, err := json.Marshal(savedChatter{key.rule, key.version, key.series.device, key.series.point, f.chatter.by[key]})
		if err != nil { // times beyond the year 9999, which only damaged state has: forgotten
			data = nil
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(data))), data...)
	}
	return dst
}

// loadChatter reads what appendChatter wrote of one key; it reports whether that was
// sound.
func (f *Fold) loadChatter(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	var c savedChatter
	return json.Unmarshal(data, &c) == nil && f.takeChatter(&c)
}

// loadChatters is loadChatter for the list that older formats have.
func (f *Fold) loadChatters(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	var list []struct {
		savedChatter
		chatterState
	}
	if json.Unmarshal(data, &list) != nil {
		return false
	}
	for i := range list {
		c := &list[i]
		if c.State = &c.chatterState; !f.takeChatter(&c.savedChatter) {
			return false
		}
	}
	return true
}

func (f *Fold) takeChatter(c *savedChatter) bool {
	key := chatterKey{c.Rule, c.Version, seriesName{c.Device, c.Point}}
	st := c.State
	if st == nil {
		delete(f.chatter.by, key)
		return true
	}
	if st.On && st.Told == nil || st.Last > 1<<60 || st.Last < -1<<60 || len(st.Recent) >= chatterCount {
		return false
	}
	if f.chatter.by == nil {
		f.chatter.by = map[chatterKey]*chatterState{}
	}
	f.chatter.by[key] = st
	return true
}
