package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// memory is a log and a book in memory, for tests under synctest.
type memory struct {
	mu      sync.Mutex
	entries []alert.Entry
	alerts  map[string]alert.Alert
	changed chan struct{}
	kept    map[string]feed.Consumer
	all     []feed.Receipt
	tokens  map[string][]byte
}

func newMemory() *memory {
	return &memory{alerts: map[string]alert.Alert{}, changed: make(chan struct{}), kept: map[string]feed.Consumer{}, tokens: map[string][]byte{}}
}

func (m *memory) Generations() []alert.Generation { return []alert.Generation{{ID: "g", First: 1}} }
func (m *memory) FirstSequence() uint64           { return 1 }
func (m *memory) LastSequence() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.entries))
}

func (m *memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *memory) Entries(after uint64, limit int) ([]alert.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.entries[min(after, uint64(len(m.entries))):]
	return slices.Clone(list[:min(limit, len(list))]), nil
}

func (m *memory) History(string, uint64, int) ([]alert.Entry, error) { return nil, nil }

func (m *memory) Alert(id string) (alert.Alert, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.alerts[id]
	return a, ok, nil
}

func (m *memory) ActiveAlerts() (out []alert.Alert, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.alerts {
		if a.State == alert.Active {
			out = append(out, a)
		}
	}
	return out, nil
}

func (m *memory) Consumer(name string) (feed.Consumer, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.kept[name]
	return c, ok, nil
}

func (m *memory) Advance(s feed.Step) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[s.Consumer.Name] = s.Consumer
	m.all = append(m.all, s.Receipts...)
	return nil
}

func (m *memory) Pass(s feed.Step) error { return m.Advance(s) }

func (m *memory) PutToken(name string, v []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[name] = v
	return nil
}

func (m *memory) Token(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tokens[name], nil
}

// phone is a channel in memory.
type phone struct {
	name string
	mu   *sync.Mutex
	got  *[]string
	fail error
}

func (p *phone) send(_ context.Context, m *message) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return "", p.fail
	}
	*p.got = append(*p.got, fmt.Sprintf("%s %s>%s %s: %s", time.Now().In(hanoi).Format("15:04:05"), p.name, m.Person, m.Reason, m.Text))
	return "ok", nil
}

func (p *phone) failing(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func (*phone) close() {}

// town is one route with people, in time that stands still between events.
type town struct {
	*testing.T
	m      *memory
	cfg    RouteConfig
	mu     sync.Mutex
	got    []string
	sms    *phone
	mail   *phone
	cancel context.CancelFunc
	ended  chan struct{}
	n      int
	people *people
}

// in runs a test of a route. It begins at 07:00 in Vietnam.
func in(t *testing.T, cfg RouteConfig, f func(w *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &town{T: t, m: newMemory(), cfg: cfg}
		w.sms, w.mail = &phone{name: "sms", mu: &w.mu, got: &w.got}, &phone{name: "mail", mu: &w.mu, got: &w.got}
		w.start()
		defer func() { w.stop() }()
		f(w)
	})
}

func (w *town) start() {
	c := Config{People: PeopleConfig{
		Language: "en",
		Contacts: []ContactConfig{{Name: "Lan", At: map[string]string{"sms": "1", "mail": "l@x"}}, {Name: "Minh", At: map[string]string{"mail": "m@x"}}},
	}}
	parts := &Parts{Log: w.m, Book: w.m, Site: sites, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	p, err := newPeople(&c, parts)
	if err != nil {
		w.Fatal(err)
	}
	p.channels = map[string]channel{"sms": w.sms, "mail": w.mail}
	if w.cfg.Tell == nil {
		w.cfg.Tell, w.cfg.By = []string{"Lan"}, []string{"sms", "mail"}
	}
	w.people, w.cfg.Name = p, "night"
	r, err := newRoute(&w.cfg, p)
	if err != nil {
		w.Fatal(err)
	}
	target := &target{name: "night", sink: r, parts: parts, log: parts.Logger, wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.ended = cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		if err := target.run(ctx); err != nil {
			w.Error(err)
		}
	}()
	synctest.Wait()
}

func (w *town) stop() {
	w.cancel()
	<-w.ended
}

// pass lets time go by.
func (w *town) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *town) write(kind alert.Kind, a alert.Alert) alert.Alert {
	now := time.Now().UTC()
	a.Sequence, a.Recorded = w.m.LastSequence()+1, now
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.m.alerts[a.ID] = a
	w.m.entries = append(w.m.entries, alert.Entry{Generation: "g", Sequence: a.Sequence, Recorded: now, Transition: alert.Transition{Kind: kind, Time: a.Updated, Alert: a}})
	close(w.m.changed)
	w.m.changed = make(chan struct{})
	return a
}

// raise writes an alert that began the given time ago.
func (w *town) raise(ago time.Duration, change func(*alert.Alert)) alert.Alert {
	w.n++
	start := time.Now().Add(-ago).UTC()
	a := alert.Alert{
		ID: fmt.Sprintf("a%d", w.n), State: alert.Active, Severity: alert.Warning, Site: "lac-duong", Rule: "rain", Start: start, Updated: start,
		Message: telemetry.Text{EN: fmt.Sprintf("rain %d", w.n)},
	}
	if change != nil {
		change(&a)
	}
	a = w.write(alert.Raised, a)
	synctest.Wait()
	return a
}

func (w *town) end(a alert.Alert) {
	now := time.Now().UTC()
	a.State, a.End, a.Updated = alert.Cleared, &now, now
	w.write(alert.Ended, a)
	synctest.Wait()
}

func (w *town) set(a *alert.Alert, kind alert.Kind, change func(*alert.Alert)) {
	change(a)
	*a = w.write(kind, *a)
	synctest.Wait()
}

// sort is for messages that go at the same time.
func (w *town) sort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.got)
}

// heard compares what people were told since the last call: each wanted text must
// be within the message of its place.
func (w *town) heard(what string, want ...string) {
	w.Helper()
	w.mu.Lock()
	got := w.got
	w.got = nil
	w.mu.Unlock()
	bad := len(got) != len(want)
	for i := 0; !bad && i < len(want); i++ {
		for _, part := range strings.Split(want[i], "|") {
			bad = bad || !strings.Contains(got[i], part)
		}
	}
	if bad {
		w.Fatalf("%s: heard\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheFirstNoticeGoesAtOnceAndTheRestInADigest(t *testing.T) {
	in(t, RouteConfig{}, func(w *town) {
		a := w.raise(0, nil)
		w.heard("the first", "07:00:00 sms>Lan first: [Warning] Lac Duong: rain 1")
		w.pass(time.Minute)
		w.raise(0, nil)
		w.end(a)
		w.raise(0, nil)
		w.heard("what follows waits")
		w.raise(0, func(a *alert.Alert) { a.Severity = alert.Emergency })
		w.heard("what is worse goes at once", "07:01:00 sms>Lan worse: 3 alerts:|[EMERGENCY]|rain 4|rain 2|rain 3")
		w.pass(time.Minute)
		w.raise(0, nil)
		w.pass(8 * time.Minute)
		w.heard("the digest's time begins anew with what is worse")
		w.pass(time.Minute)
		w.heard("the digest", "07:11:00 sms>Lan digest: Digest: 1 active, 1 over|rain 5|rain 1. Over")
		w.pass(time.Hour)
		w.heard("nothing more")
		w.raise(0, nil)
		w.heard("after a quiet time the next is a first one", "first: |rain 6")
		w.raise(0, func(a *alert.Alert) { a.Site = "elsewhere" })
		w.heard("another place, too", "first: |elsewhere: rain 7")
	})
}

func TestABacklogDoesNotWakePeopleForWhatIsOver(t *testing.T) {
	in(t, RouteConfig{}, func(w *town) {
		w.pass(19 * time.Hour) // 02:00
		for range 40 {
			a := w.raise(3*time.Hour, nil)
			w.pass(100 * time.Millisecond)
			w.end(a)
		}
		w.raise(5*time.Hour, nil) // still stands
		w.heard("nobody yet")
		w.pass(time.Minute)
		w.heard("what stands, and since when", "02:00:34 sms>Lan first: [Warning] Lac Duong: rain 41. since 21:00 01/01, known at 02:00 02/01")
		w.pass(4 * time.Hour)
		w.heard("the night is quiet")
		w.pass(90 * time.Minute)
		w.heard("one digest in the morning", "07:00:|sms>Lan digest: Over: 40 alerts|rain 1. Over 23:00 01/01|… and 25 more")
	})
}

func TestWhatIsHeldIsNotTold(t *testing.T) {
	in(t, RouteConfig{}, func(w *town) {
		until := time.Now().Add(time.Hour)
		a := w.raise(0, func(a *alert.Alert) { a.ShelvedUntil = &until })
		b := w.raise(0, func(a *alert.Alert) { a.Suppressed = "maintenance" })
		w.pass(30 * time.Minute)
		w.end(b)
		w.pass(29 * time.Minute)
		w.heard("nothing")
		w.set(&a, alert.Unshelved, func(a *alert.Alert) { a.ShelvedUntil = nil })
		w.heard("the hold is over, and it still stands", "07:59:00 sms>Lan first: |rain 1. since 07:00")
	})
}

func TestWhatNobodyAcknowledgesGoesUp(t *testing.T) {
	cfg := RouteConfig{Escalate: []EscalateConfig{{After: 15 * time.Minute, Tell: []string{"Minh"}, By: []string{"mail"}}, {After: 30 * time.Minute, Tell: []string{"Lan", "Minh"}}}}
	in(t, cfg, func(w *town) {
		a, b := w.raise(0, nil), w.raise(0, func(a *alert.Alert) { a.Site = "x" })
		w.heard("both", "rain 1", "rain 2")
		w.pass(10 * time.Minute)
		w.set(&b, alert.Acknowledged, func(a *alert.Alert) { a.Acknowledged = true })
		w.pass(6 * time.Minute)
		w.heard("one step", "07:15:00 mail>Minh escalation: NOT ACKNOWLEDGED: |rain 1")
		w.stop()
		w.start() // nothing is told twice
		w.pass(14 * time.Minute)
		w.sort()
		w.heard("two steps, Minh has no telephone", "07:30:00 mail>Minh escalation: NOT ACKNOWLEDGED|rain 1", "07:30:00 sms>Lan escalation: NOT ACKNOWLEDGED|rain 1")
		w.pass(2 * time.Hour)
		w.heard("no more steps")
		w.set(&b, alert.SeverityChanged, func(a *alert.Alert) { a.Severity, a.Acknowledged = alert.Critical, false })
		w.heard("it became worse and calls again", "worse: [Critical]")
		w.set(&a, alert.Acknowledged, func(a *alert.Alert) { a.Acknowledged = true })
		w.pass(15 * time.Minute)
		w.heard("and goes up anew", "escalation: NOT ACKNOWLEDGED: [Critical]")
	})
}

func TestTheNextChannelIsTriedWhenOneFails(t *testing.T) {
	in(t, RouteConfig{Tell: []string{"Lan", "Minh"}, By: []string{"sms", "mail"}}, func(w *town) {
		w.sms.failing(errors.New("no route to host"))
		w.raise(0, nil)
		w.heard("Minh has mail only", "07:00:00 mail>Minh first")
		w.pass(6 * time.Second)
		w.heard("tried twice, then the next", "07:00:05 mail>Lan first")
		w.sms.failing(&refusal{"unknown number"})
		w.raise(0, func(a *alert.Alert) { a.Site = "x" })
		w.pass(time.Second)
		w.sort()
		w.heard("a refusal is final for the channel", "mail>Lan first|rain 2", "mail>Minh first|rain 2")
		w.mail.failing(errors.New("down"))
		w.raise(0, func(a *alert.Alert) { a.Site = "y" })
		w.pass(30 * time.Second)
		w.heard("nobody")
		w.mail.failing(nil)
		w.pass(2 * time.Minute)
		w.sort()
		w.heard("from the first again", "mail>Lan first|rain 3", "mail>Minh first|rain 3")
		sent, failed := 0, 0
		for _, r := range w.m.all {
			if r.Sent {
				sent++
			} else {
				failed++
			}
		}
		if sent != 6 || failed == 0 || w.m.all[0].Consumer != "night" || w.m.all[0].Text == "" {
			t.Errorf("%d sent, %d failed: %+v", sent, failed, w.m.all)
		}
	})
}

func TestWhatIsOverBeforeAnybodyCouldBeReachedIsNotAnAlarm(t *testing.T) {
	in(t, RouteConfig{}, func(w *town) {
		w.sms.failing(errors.New("down"))
		w.mail.failing(errors.New("down"))
		a := w.raise(0, nil)
		w.pass(20 * time.Second)
		w.end(a)
		w.sms.failing(nil)
		w.pass(5 * time.Minute)
		w.heard("nobody is called")
		w.pass(20 * time.Minute)
		w.heard("it is in a digest", "digest: [Warning] Lac Duong: rain 1. Over 07:00 01/01–07:00 01/01")
	})
}

func TestARouteSpeaksInItsHours(t *testing.T) {
	in(t, RouteConfig{Hours: []string{"08:00-17:00"}, Days: []string{"sat"}}, func(w *town) { // 1 January 2000 was a Saturday
		a := w.raise(0, nil)
		w.raise(0, nil)
		w.pass(30 * time.Minute)
		w.end(a)
		w.heard("not yet")
		w.pass(31 * time.Minute)
		w.sort()
		w.heard("what still stands when they begin, and what is over", "08:00:00 sms>Lan digest: |rain 1. Over", "08:00:00 sms>Lan first: [Warning] Lac Duong: rain 2")
		w.pass(12 * time.Hour)
		w.raise(0, nil)
		w.pass(24 * time.Hour)
		w.heard("on Sunday nobody")
	})
}

func TestHours(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.ParseInLocation("Mon 15:04", s, hanoi)
		if err != nil {
			t.Fatal(err)
		}
		day := slices.Index(dayNames[:], strings.ToLower(s[:3]))
		return time.Date(2026, 11, 22+day, v.Hour(), v.Minute(), 0, 0, hanoi) // the 22nd is a Sunday
	}
	s, err := newSchedule([]string{"22:00-06:00", "12:00-13:00"}, []string{"mon", "tue"})
	if err != nil {
		t.Fatal(err)
	}
	for when, want := range map[string]bool{
		"Mon 22:00": true, "Tue 05:59": true, "Tue 06:00": false, "Mon 05:00": false, "Wed 05:00": true, "Wed 22:00": false, "Tue 12:30": true, "Mon 21:59": false,
	} {
		if got := s.open(at(when)); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	for _, bad := range []string{"", "8-9", "08:00", "08:00-08:00", "25:00-26:00"} {
		if _, err := parseSpan(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever happens, in which order, and however often it is stopped: everybody is
// told at least once of each alert that stood, unheld, for long enough.
func TestNobodyIsForgottenWhateverIsKilled(t *testing.T) {
	for seed := range uint64(20) {
		in(t, RouteConfig{GroupBy: []string{"site", "rule", "all"}[seed%3], Digest: 5 * time.Minute}, func(w *town) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			var standing []alert.Alert
			for range 60 {
				switch rnd.IntN(7) {
				case 0, 1, 2:
					standing = append(standing, w.raise(time.Duration(rnd.IntN(3))*time.Hour, func(a *alert.Alert) {
						a.Severity, a.Site = alert.Severity(1+rnd.IntN(4)), fmt.Sprint("s", rnd.IntN(3))
					}))
				case 3:
					if len(standing) > 0 {
						i := rnd.IntN(len(standing))
						w.end(standing[i])
						standing = slices.Delete(standing, i, i+1)
					}
				case 4:
					w.stop()
					w.start()
				case 5:
					w.sms.failing([]error{nil, errors.New("down"), &refusal{"no"}}[rnd.IntN(3)])
				}
				w.pass(time.Duration(rnd.IntN(200)) * time.Second)
			}
			w.sms.failing(nil)
			w.pass(26 * time.Hour)
			all := strings.Join(w.got, "\n") + "\n"
			for i := 1; i <= w.n; i++ {
				if !strings.Contains(all, fmt.Sprintf("rain %d.", i)) && !strings.Contains(all, " more") {
					t.Errorf("seed %d: nobody heard of rain %d:\n%s", seed, i, all)
				}
			}
		})
	}
}
