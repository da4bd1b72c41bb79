package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
)

// The model is what an operator would keep on paper: a line for each alert, a
// list of what is shelved and held, and which keys have been used.
type model struct {
	alerts  map[string]line
	holds   map[string]paperHold
	keys    map[string]bool // alert/key of acts that were done
	seen    map[int]bool    // steps of the script that have come
	entries int
}

type line struct {
	Rule, Device              string
	Active                    bool
	Severity, AckSeverity     alert.Severity
	Acknowledged, Closed      bool
	Shelved, Maintenance, Out int64 // until when; 0: not
	Assignee                  string
	Comments                  int
}

type paperHold struct {
	kind         alert.HoldKind
	rule, device string
	until        int64
}

func (m *model) clone() *model {
	c := *m
	c.alerts, c.holds, c.keys, c.seen = maps.Clone(m.alerts), maps.Clone(m.holds), maps.Clone(m.keys), maps.Clone(m.seen)
	return &c
}

func (m *model) held(a line) line {
	a.Shelved, a.Maintenance, a.Out = 0, 0, 0
	for _, h := range m.holds {
		if h.device != a.Device || h.rule != "" && h.rule != a.Rule {
			continue
		}
		switch h.kind {
		case alert.HoldShelved:
			if a.Active {
				a.Shelved = h.until
			}
		case alert.HoldMaintenance:
			a.Maintenance = 1
		default:
			a.Out = 1
		}
	}
	return a
}

// holdsChanged brings the active alerts up to date, an entry for each that changes.
func (m *model) holdsChanged() {
	for id, a := range m.alerts {
		if now := m.held(a); a.Active && now != a {
			m.alerts[id] = now
			m.entries++
		}
	}
}

func (m *model) transition(i int, t *alert.Transition) {
	if m.seen[i] {
		return
	}
	m.seen[i] = true
	m.entries++
	a := m.alerts[t.Alert.ID]
	a.Rule, a.Device, a.Severity, a.Active = t.Alert.Rule, t.Alert.Device, t.Alert.Severity, t.Kind != alert.Ended
	if a.Acknowledged && a.Active && a.Severity > a.AckSeverity {
		a.Acknowledged = false
	}
	m.alerts[t.Alert.ID] = m.held(a)
}

// act reports whether the act is possible.
func (m *model) act(kind alert.Kind, act alert.Act, id string, now int64) bool {
	if act.Key != "" && m.keys[id+"/"+act.Key] {
		return true // the same act again
	}
	a, ok := m.alerts[id]
	open := !a.Closed
	switch kind {
	case alert.Acknowledged:
		ok = ok && open && !a.Acknowledged
		a.Acknowledged, a.AckSeverity = true, a.Severity
	case alert.Unacknowledged:
		ok = ok && open && a.Acknowledged
		a.Acknowledged = false
	case alert.Commented:
		a.Comments++
	case alert.Assigned:
		ok = ok && open && a.Assignee != act.Assignee
		a.Assignee = act.Assignee
	case alert.Closed:
		if ok = ok && open && !a.Active; !a.Acknowledged {
			a.Acknowledged, a.AckSeverity = true, a.Severity
		}
		a.Closed = true
	case alert.Reopened:
		ok = ok && a.Closed
		a.Closed = false
	case alert.Shelved:
		ok = ok && open && a.Active && act.Until.UnixMilli() > now
	case alert.Unshelved:
		ok = ok && open && a.Shelved > 0
	}
	if !ok {
		return false
	}
	m.keys[id+"/"+act.Key] = true
	switch kind {
	case alert.Shelved:
		same := m.holds["shelf/"+a.Rule+a.Device].until == act.Until.UnixMilli()
		m.holds["shelf/"+a.Rule+a.Device] = paperHold{alert.HoldShelved, a.Rule, a.Device, act.Until.UnixMilli()}
		if m.holdsChanged(); same {
			m.entries++
		}
	case alert.Unshelved:
		delete(m.holds, "shelf/"+a.Rule+a.Device)
		m.holdsChanged()
	default:
		m.alerts[id] = a
		m.entries++
	}
	return true
}

func (m *model) expire(now int64) {
	for _, id := range slices.Sorted(maps.Keys(m.holds)) {
		if m.holds[id].until <= now {
			delete(m.holds, id)
			m.holdsChanged()
		}
	}
}

// script is what the rules would raise: episodes of some rules on some devices,
// one after the other on each.
func script(rnd *rand.Rand) (out []alert.Transition) {
	for r := range 2 {
		for d := range 3 {
			t := int64(1000 + rnd.IntN(50))
			for range 1 + rnd.IntN(4) {
				id, start := fmt.Sprintf("r%d-d%d-%d", r, d, t), t
				at := func(kind alert.Kind, sev alert.Severity) {
					tr := step(id, kind, start, t, sev)
					tr.Alert.Rule, tr.Alert.Device = fmt.Sprintf("r%d", r), fmt.Sprintf("d%d", d)
					out = append(out, tr)
					t += 1 + rnd.Int64N(100)
				}
				sev := alert.Severity(1 + rnd.IntN(4))
				at(alert.Raised, sev)
				for range rnd.IntN(4) {
					next := alert.Severity(1 + rnd.IntN(4))
					if next != sev {
						sev = next
						at(alert.SeverityChanged, sev)
					}
				}
				if rnd.IntN(4) == 0 {
					break // it stands
				}
				at(alert.Ended, sev)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b alert.Transition) int { return a.Time.Compare(b.Time) })
	return out
}

type modelRun struct {
	t             *testing.T
	rnd           *rand.Rand
	l             *Ledger
	dir           string
	clock         *testClock
	now           int64
	m, durable    *model
	script        []alert.Transition
	next          int
	done          []string // what happened, for a failure
	refused, acts int
}

func (r *modelRun) open(dir string) {
	r.dir = dir
	// Nothing commits by itself: a crash loses what no call has waited for.
	r.l = open(r.t, dir, Options{Now: r.clock.now, Window: time.Hour, Recent: 5})
}

func (r *modelRun) note(format string, args ...any) {
	r.done = append(r.done, fmt.Sprintf(format, args...))
}

func (r *modelRun) someAlert() string {
	ids := slices.Sorted(maps.Keys(r.m.alerts))
	if len(ids) == 0 || r.rnd.IntN(30) == 0 {
		return "nobody"
	}
	return ids[r.rnd.IntN(len(ids))]
}

func (r *modelRun) act() {
	kinds := []alert.Kind{
		alert.Acknowledged, alert.Acknowledged, alert.Unacknowledged, alert.Commented, alert.Assigned, alert.Closed, alert.Closed,
		alert.Reopened, alert.Shelved, alert.Shelved, alert.Unshelved,
	}
	kind, id := kinds[r.rnd.IntN(len(kinds))], r.someAlert()
	act := alert.Act{Who: "Lan"}
	switch kind {
	case alert.Commented:
		act.Text = "seen"
	case alert.Assigned:
		act.Assignee = []string{"", "Hùng", "Mai"}[r.rnd.IntN(3)]
	case alert.Closed:
		act.Cause = alert.CauseFalseAlarm
	case alert.Shelved:
		act.Until = until(r.now + 1 + r.rnd.Int64N(60))
	}
	if r.rnd.IntN(2) == 0 {
		act.Key = fmt.Sprintf("k%d", r.acts)
	}
	r.acts++
	for range 1 + r.rnd.IntN(2) {
		want := r.m.act(kind, act, id, r.now)
		res, err := r.l.Act(kind, act, id)
		check(r.t, err)
		r.note("%s %s key=%s at %d: %v", kind, id, act.Key, r.now, res[0].Err)
		if (res[0].Err == nil) != want {
			r.t.Errorf("%s of %s: %v, the model says %v", kind, id, res[0].Err, want)
		}
		if !want {
			r.refused++
		}
		r.durable = r.m.clone()
		if act.Key == "" {
			return
		}
	}
}

func (r *modelRun) hold() {
	if ids := slices.Sorted(maps.Keys(r.m.holds)); len(ids) > 0 && r.rnd.IntN(3) == 0 {
		id := ids[r.rnd.IntN(len(ids))]
		if r.m.holds[id].kind == alert.HoldShelved {
			return
		}
		r.note("end hold %s", id)
		delete(r.m.holds, id)
		r.m.holdsChanged()
		_, err := r.l.EndHold(id, "Lan", "")
		check(r.t, err)
		r.durable = r.m.clone()
		return
	}
	h := alert.Hold{
		ID: fmt.Sprintf("h%d", r.acts), Kind: []alert.HoldKind{alert.HoldMaintenance, alert.HoldOutOfService}[r.rnd.IntN(2)],
		Edge: "e1", Device: fmt.Sprintf("d%d", r.rnd.IntN(3)), Until: ms(r.now + 1 + r.rnd.Int64N(80)), Who: "Lan",
	}
	if r.rnd.IntN(2) == 0 {
		h.Rule = fmt.Sprintf("r%d", r.rnd.IntN(2))
	}
	r.acts++
	r.note("hold %+v", h)
	r.m.holds[h.ID] = paperHold{h.Kind, h.Rule, h.Device, h.Until.UnixMilli()}
	r.m.holdsChanged()
	_, err := r.l.PutHold(h)
	check(r.t, err)
	r.durable = r.m.clone()
}

func (r *modelRun) crash() {
	data, err := os.ReadFile(filepath.Join(r.dir, FileName)) // what a kill leaves
	check(r.t, err)
	check(r.t, r.l.Close())
	dir := r.t.TempDir()
	check(r.t, os.WriteFile(filepath.Join(dir, FileName), data, 0o600))
	r.open(dir)
	r.m = r.durable.clone()
	lost := 0 // the edges begin at their checkpoint, which holds nothing that is not in the log
	for lost < len(r.script) && r.m.seen[lost] {
		lost++
	}
	r.next = r.rnd.IntN(lost + 1)
	r.note("crash, on from %d", r.next)
}

func (r *modelRun) compare() {
	check(r.t, r.l.Flush())
	r.durable = r.m.clone()
	counts := alert.Counts{BySeverity: map[alert.Severity]int{}}
	for id, want := range r.m.alerts {
		a := stateOf(r.t, r.l, id)
		got := line{
			Rule: a.Rule, Device: a.Device, Active: a.State == alert.Active, Severity: a.Severity, Acknowledged: a.Acknowledged, Closed: a.Closed != nil,
			Assignee: a.Assignee, Comments: a.Comments,
		}
		if a.Ack != nil {
			got.AckSeverity = a.Ack.Severity
		}
		if !want.Acknowledged {
			want.AckSeverity = 0
		}
		if a.ShelvedUntil != nil {
			got.Shelved = a.ShelvedUntil.UnixMilli()
		}
		if a.Suppressed == "maintenance" {
			got.Maintenance = 1
		}
		if a.OutOfService {
			got.Out = 1
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.t.Errorf("alert %s (-model +ledger):\n%s", id, diff)
		}
		if want.Active && want.Shelved+want.Maintenance+want.Out == 0 {
			counts.Active++
			counts.BySeverity[want.Severity]++
			if !want.Acknowledged {
				counts.Unacknowledged++
			}
		}
	}
	c := r.l.Counts()
	if c.Active != counts.Active || c.Unacknowledged != counts.Unacknowledged || !maps.Equal(c.BySeverity, counts.BySeverity) {
		r.t.Errorf("counts %+v, the model has %+v", c, counts)
	}
	if n := r.l.LastSequence(); n != uint64(r.m.entries) {
		r.t.Errorf("%d entries, the model has %d", n, r.m.entries)
	}
}

func modelSeed(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	fresh := &model{alerts: map[string]line{}, holds: map[string]paperHold{}, keys: map[string]bool{}, seen: map[int]bool{}}
	r := &modelRun{t: t, rnd: rnd, clock: clockAt(10_000), now: 10_000, m: fresh, durable: fresh.clone(), script: script(rnd)}
	r.open(t.TempDir())
	for range 150 {
		switch rnd.IntN(12) {
		case 0, 1, 2, 3, 4:
			if r.next < len(r.script) {
				tr := &r.script[r.next]
				r.note("%d: %s %s %s", r.next, tr.Kind, tr.Alert.ID, tr.Alert.Severity)
				r.m.transition(r.next, tr)
				check(t, r.l.Append(*tr))
				r.next++
			}
		case 5, 6, 7:
			r.act()
		case 8:
			r.hold()
		case 9:
			r.now += rnd.Int64N(40)
			r.clock.set(r.now)
			r.note("it is %d", r.now)
			r.m.expire(r.now)
			check(t, r.l.Expire())
			check(t, r.l.Flush())
			r.durable = r.m.clone()
		case 10:
			if rnd.IntN(3) == 0 {
				r.crash()
			}
		case 11:
			r.compare()
		}
		if t.Failed() {
			break
		}
	}
	r.compare()
	check(t, r.l.Close())
	if t.Failed() {
		t.Logf("seed %d", seed)
		for _, s := range r.done {
			t.Log(s)
		}
	}
}

// LANGBIANG_TORTURE_ROUNDS says how often ten histories are tried.
func TestAfterCrashesAlertsAreWhatAModelOnPaperMakesOfThem(t *testing.T) {
	seeds := uint64(6)
	if n, err := strconv.ParseUint(os.Getenv("LANGBIANG_TORTURE_ROUNDS"), 10, 64); err == nil {
		seeds = 10 * n
	}
	for seed := range seeds {
		if modelSeed(t, seed); t.Failed() {
			return
		}
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { modelSeed(t, seed) })
}
