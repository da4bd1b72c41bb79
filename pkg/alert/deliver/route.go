package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// route tells people of alerts. Entries change what it knows ([route.deliver]);
// time decides what is told ([route.idle]):
//
//   - The first alert of a group (a site, as configured) is told at once. What
//     follows within the digest time is gathered and told together at its end,
//     unless it is worse than what was told: that goes at once.
//   - An alert that was known late waits a little for its end. When it has ended by
//     then, or before anybody could be told, it goes into the route's digest of what
//     is over, which is sent at hours in which people are awake.
//   - What is held (shelved, suppressed, out of service) is not told; when the hold
//     ends and it still stands, it is.
//   - What nobody acknowledges is told to others, step by step.
//
// Notices are written from the alerts as they are when they are sent.
type route struct {
	cfg   *RouteConfig
	p     *people
	hours schedule
	awake schedule
	st    routeState
	done  []feed.Receipt
}

// routeState is what is kept, version 1.
type routeState struct {
	Version int                 `json:"version"`
	Alerts  map[string]*tracked `json:"alerts"` // that are active
	Groups  map[string]*gather  `json:"groups"`
	Outbox  []*job              `json:"outbox"`
	Next    uint64              `json:"next"` // number of the next job
}

// tracked is an active alert.
type tracked struct {
	Group    string         `json:"group"`
	Severity alert.Severity `json:"severity"`
	Held     bool           `json:"held,omitempty"`
	Acked    bool           `json:"acked,omitempty"`
	Due      time.Time      `json:"due,omitzero"` // when it is to be told; zero: it need not
	Told     alert.Severity `json:"told,omitempty"`
	ToldAt   time.Time      `json:"told_at,omitzero"`
	Level    int            `json:"level,omitempty"` // steps of escalation that were made
}

// gather is a group within its digest time.
type gather struct {
	Told alert.Severity `json:"told,omitempty"` // the worst that was told in this time
	End  time.Time      `json:"end"`
	Over []string       `json:"over,omitempty"` // what has ended since
}

// job is one message to one person that is not sent yet.
type job struct {
	Number   uint64    `json:"number"`
	Reason   string    `json:"reason"`
	Person   string    `json:"person"`
	By       []string  `json:"by"`
	At       int       `json:"at"`    // index of the channel that is tried
	Tries    int       `json:"tries"` // of that channel
	Rounds   int       `json:"rounds"`
	Attempts int       `json:"attempts"`
	Due      time.Time `json:"due"`
	Made     time.Time `json:"made"`
	Alerts   []string  `json:"alerts,omitempty"`
	Over     []string  `json:"over,omitempty"`
}

// The reasons of notices.
const (
	reasonFirst     = "first"
	reasonWorse     = "worse"
	reasonDigest    = "digest"
	reasonEscalated = "escalation"
	reasonHeartbeat = "heartbeat"
	reasonTest      = "test"
)

const (
	defaultDigest   = 10 * time.Minute
	defaultLateWait = 30 * time.Second
	lateFrom        = 2 * time.Minute // an alert that is known so long after its start is late
	triesPerChannel = 2
	tryAgain        = 5 * time.Second
	mostRound       = 10 * time.Minute
	giveUp          = 24 * time.Hour
	maxTold         = 500 // ids in one notice
)

func newRoute(c *RouteConfig, p *people) (*route, error) {
	r := &route{cfg: c, p: p}
	r.reset()
	var err error
	if r.hours, err = newSchedule(c.Hours, c.Days); err != nil {
		return nil, err
	}
	r.awake, err = newSchedule(orList(c.Awake, []string{"07:00-21:00"}), nil)
	return r, err
}

func (r *route) reset() {
	r.st = routeState{Version: 1, Alerts: map[string]*tracked{}, Groups: map[string]*gather{}}
}

func (r *route) describe() string {
	return strings.Join(r.cfg.Tell, ", ") + " by " + strings.Join(r.cfg.By, ", then ")
}

func (r *route) remember(state json.RawMessage) error {
	if len(state) == 0 {
		return nil
	}
	r.reset()
	if err := json.Unmarshal(state, &r.st); err != nil {
		return err
	}
	if r.st.Version != 1 {
		return fmt.Errorf("its version is %d; this program knows 1", r.st.Version)
	}
	return nil
}

func (r *route) memory() (json.RawMessage, error) { return json.Marshal(&r.st) }

func (r *route) receipts() []feed.Receipt {
	done := r.done
	r.done = nil
	return done
}

// deliver notes what the entries say.
func (r *route) deliver(_ context.Context, entries []alert.Entry) (int, error) {
	now := r.p.parts.Now()
	for i := range entries {
		r.note(&entries[i], now)
	}
	return len(entries), nil
}

func (r *route) group(a *alert.Alert) string {
	switch r.cfg.GroupBy {
	case "rule":
		return "rule " + a.Rule
	case "all":
		return "all"
	}
	return "site " + a.Site
}

// overGroup gathers what was over before it could be told, of all sites together.
const overGroup = "over"

func (r *route) note(e *alert.Entry, now time.Time) {
	a := &e.Alert
	t := r.st.Alerts[a.ID]
	if a.State != alert.Active {
		if t == nil {
			return // told of nothing, and nothing to tell
		}
		delete(r.st.Alerts, a.ID)
		switch {
		case t.Told > alert.None && r.cfg.Ends != "none":
			r.over(t.Group, a.ID, now)
		case t.Told == alert.None && !t.Held:
			r.over(overGroup, a.ID, now)
		}
		return
	}
	late := false
	if t == nil {
		t = &tracked{Group: r.group(a)}
		r.st.Alerts[a.ID] = t
		late = e.Recorded.Sub(a.Start) >= lateFrom
	}
	was := *t
	t.Severity, t.Held, t.Acked = a.Severity, a.Held() != "", a.Acknowledged
	switch {
	case t.Held || t.Acked && t.Told == alert.None:
		t.Due = time.Time{} // who took it on knows of it
	case t.Told == alert.None && was.Due.IsZero():
		t.Due = now
		if late {
			t.Due = now.Add(or(r.cfg.Over, defaultLateWait))
		}
	case t.Told > alert.None && t.Severity > t.Told:
		t.Due = now
	}
	if was.Acked && !t.Acked { // it calls again
		t.Level, t.ToldAt = 0, now
	}
}

// over notes that an alert has ended.
func (r *route) over(group, id string, now time.Time) {
	g := r.st.Groups[group]
	if g == nil {
		g = &gather{End: now.Add(or(r.cfg.Digest, defaultDigest))}
		r.st.Groups[group] = g
	}
	g.Over = append(g.Over, id)
}

// due is when something is to be done next; zero for never.
func (r *route) due() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, t := range r.st.Alerts {
		if !t.Due.IsZero() {
			if g := r.st.Groups[t.Group]; g != nil && t.Severity <= g.Told {
				at(latest(t.Due, g.End))
			} else {
				at(t.Due)
			}
		}
		at(r.escalation(t))
	}
	for _, g := range r.st.Groups {
		at(g.End)
	}
	for _, j := range r.st.Outbox {
		at(j.Due)
	}
	return next
}

// escalation is when the next step is made if nobody acknowledges; zero for never.
func (r *route) escalation(t *tracked) time.Time {
	if t.Told == alert.None || t.Held || t.Acked || t.Level >= len(r.cfg.Escalate) {
		return time.Time{}
	}
	return t.ToldAt.Add(r.cfg.Escalate[t.Level].After)
}

// closedCheck is how often it looks whether it may speak again.
const closedCheck = 30 * time.Second

func (r *route) idle(ctx context.Context, now time.Time) (time.Time, bool, error) {
	changed := r.decide(now)
	sent, err := r.flush(ctx, now)
	next := r.due()
	if slices.ContainsFunc(r.st.Outbox, func(j *job) bool { return !j.Due.After(now) }) {
		return now.Add(time.Millisecond), changed || sent, err // another channel is to be tried at once
	}
	if !next.IsZero() && !next.After(now) { // it waits for its hours
		next = now.Add(closedCheck)
	}
	return next, changed || sent, err
}

// decide makes jobs of what the time has come for.
func (r *route) decide(now time.Time) (changed bool) {
	if r.hours.open(now) {
		for _, key := range slices.Sorted(maps.Keys(r.groupsDue(now))) {
			changed = r.tell(key, now) || changed
		}
		changed = r.escalate(now) || changed
	}
	for _, key := range slices.Sorted(maps.Keys(r.st.Groups)) {
		g := r.st.Groups[key]
		switch {
		case now.Before(g.End):
			continue
		case len(g.Over) == 0:
			delete(r.st.Groups, key)
		case !r.hours.open(now) || key == overGroup && !r.awake.open(now):
			continue
		default:
			r.post(reasonDigest, nil, g.Over, r.cfg.Tell, r.cfg.By, now)
			delete(r.st.Groups, key)
		}
		changed = true
	}
	return changed
}

// groupsDue are the groups with an alert that is to be told.
func (r *route) groupsDue(now time.Time) map[string]bool {
	groups := map[string]bool{}
	for _, t := range r.st.Alerts {
		if !t.Due.IsZero() && !t.Due.After(now) {
			groups[t.Group] = true
		}
	}
	return groups
}

// tell tells what is due of a group, unless it has to wait for the digest.
func (r *route) tell(key string, now time.Time) bool {
	g := r.st.Groups[key]
	open := g != nil && now.Before(g.End)
	var ids []string
	worst, reason := alert.None, reasonFirst
	for id, t := range r.st.Alerts {
		if t.Group != key || t.Due.IsZero() || t.Due.After(now) {
			continue
		}
		ids = append(ids, id)
		worst = max(worst, t.Severity)
		if t.Told > alert.None {
			reason = reasonWorse
		}
	}
	if open && worst <= g.Told {
		return false
	}
	slices.Sort(ids)
	var over []string
	switch {
	case open && g.Told > alert.None:
		reason = reasonWorse
	case g != nil && (len(g.Over) > 0 || waited(r.st.Alerts, ids, g.End)):
		reason, over = reasonDigest, g.Over
	}
	if g == nil || !open {
		g = &gather{}
		r.st.Groups[key] = g
	}
	g.Told, g.End = worst, now.Add(or(r.cfg.Digest, defaultDigest))
	for _, id := range ids {
		t := r.st.Alerts[id]
		if t.Told == alert.None {
			t.ToldAt = now
		}
		t.Told, t.Due = t.Severity, time.Time{}
	}
	r.post(reason, ids, over, r.cfg.Tell, r.cfg.By, now)
	return true
}

// waited reports whether one of the alerts was to be told before t.
func waited(alerts map[string]*tracked, ids []string, t time.Time) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return alerts[id].Due.Before(t) })
}

// escalate makes the steps whose time has come: one notice for each step.
func (r *route) escalate(now time.Time) bool {
	steps := map[int][]string{}
	for id, t := range r.st.Alerts {
		if at := r.escalation(t); !at.IsZero() && !at.After(now) {
			steps[t.Level] = append(steps[t.Level], id)
			t.Level++
		}
	}
	for _, level := range slices.Sorted(maps.Keys(steps)) {
		e := &r.cfg.Escalate[level]
		ids := steps[level]
		slices.Sort(ids)
		r.post(reasonEscalated, ids, nil, e.Tell, orList(e.By, r.cfg.By), now)
	}
	return len(steps) > 0
}

// post puts a message to each person into the outbox.
func (r *route) post(reason string, ids, over, tell, by []string, now time.Time) {
	for _, person := range tell {
		r.st.Next++
		r.st.Outbox = append(r.st.Outbox, &job{
			Number: r.st.Next, Reason: reason, Person: person, By: r.p.reach(person, by), Due: now, Made: now,
			Alerts: ids[:min(len(ids), maxTold)], Over: over[:min(len(over), maxTold)],
		})
	}
}

// attempt is one try of a job, made beside those of the others.
type attempt struct {
	job    *job
	m      *message
	name   string // of the channel
	detail string
	err    error
}

// sendAtOnce bounds the messages that a route sends at the same time: a channel
// that hangs does not keep the others back.
const sendAtOnce = 8

// flush sends what is due. The error is that of the newest failure: people may
// have been reached by another channel all the same.
func (r *route) flush(ctx context.Context, now time.Time) (changed bool, err error) {
	var left []*job
	var tries []*attempt
	for _, j := range r.st.Outbox {
		if j.Due.After(now) {
			left = append(left, j)
			continue
		}
		changed = true
		m, err := r.p.message(r.cfg.Name, j)
		switch {
		case err != nil:
			return changed, err
		case m == nil:
			if err := r.callOff(j.Alerts, now); err != nil {
				return changed, err
			}
		case len(j.By) == 0:
			r.receipt(j, m, "", false, "no channel of this route reaches "+j.Person, now)
		default:
			a := &attempt{job: j, m: m, name: j.By[j.At%len(j.By)]}
			m.To = r.p.address(j.Person, a.name)
			tries = append(tries, a)
		}
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, sendAtOnce)
	for _, a := range tries {
		places <- struct{}{}
		wg.Go(func() {
			if a.err = ctx.Err(); a.err == nil {
				a.detail, a.err = r.p.send(ctx, a.name, a.m)
			}
			<-places
		})
	}
	wg.Wait()
	for _, a := range tries {
		if !r.settle(ctx, a) {
			left = append(left, a.job)
		}
		if a.err != nil {
			err = fmt.Errorf("%s by %s: %w", a.job.Person, a.name, a.err)
		}
	}
	r.st.Outbox = left
	return changed, err
}

// callOff takes back that alerts were told of: they were over, or held, before
// anybody heard.
func (r *route) callOff(ids []string, now time.Time) error {
	for _, id := range ids {
		a, known, err := r.p.parts.Log.Alert(id)
		if err != nil {
			return err
		}
		t := r.st.Alerts[id]
		switch {
		case !known:
			delete(r.st.Alerts, id)
		case a.State != alert.Active:
			r.forget(id)
			r.over(overGroup, id, now)
		case t != nil:
			t.Told = alert.None // it is told when the hold ends
		}
	}
	return nil
}

// settle notes what came of an attempt; true when nothing is left to do.
func (r *route) settle(ctx context.Context, a *attempt) bool {
	now, j := r.p.parts.Now(), a.job
	if a.err != nil && ctx.Err() != nil {
		return false // it is sent at the next start
	}
	j.Attempts++
	if a.err == nil {
		r.receipt(j, a.m, a.name, true, a.detail, now)
		return true
	}
	r.p.parts.Logger.Warn("notice not sent", "route", r.cfg.Name, "person", j.Person, "channel", a.name, "err", a.err)
	var no *refusal
	j.Tries++
	j.Due = now.Add(tryAgain)
	if errors.As(a.err, &no) || j.Tries >= triesPerChannel {
		r.receipt(j, a.m, a.name, false, a.err.Error(), now)
		j.Tries, j.At, j.Due = 0, j.At+1, now
		if j.At >= len(j.By) { // all have failed: from the first again, later
			j.At = 0
			j.Rounds++
			j.Due = now.Add(min(time.Minute<<min(j.Rounds-1, 10), mostRound))
		}
	}
	return now.Sub(j.Made) > giveUp
}

// forget takes an alert out of the groups' lists of what is over.
func (r *route) forget(id string) {
	for _, g := range r.st.Groups {
		g.Over = slices.DeleteFunc(g.Over, func(x string) bool { return x == id })
	}
}

func (r *route) receipt(j *job, m *message, channel string, sent bool, detail string, now time.Time) {
	r.done = append(r.done, feed.Receipt{
		Consumer: r.cfg.Name, Reason: j.Reason, Person: j.Person, Channel: channel, Sent: sent, Detail: detail, Attempts: j.Attempts,
		Alerts: append(slices.Clone(j.Alerts), j.Over...), Text: m.Text, At: now.UTC(),
	})
}

// probe tells everybody of the route, by every channel that reaches them.
func (r *route) probe(ctx context.Context, who string) (string, error) {
	return r.p.probe(ctx, r.cfg.Name, r.cfg.Tell, r.cfg.By, who)
}

func (r *route) close() { r.p.close() }
