package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// item is one alert of a notice, as templates see it.
type item struct {
	Alert   *alert.Alert
	Site    string // its name in the language of the notice
	Message string
	Level   string // its severity as people say it
	Line    string // the whole as one line
}

// maxLines bounds the alerts that a notice lists one by one.
const maxLines = 15

// phrases are what notices are made of, by language.
type phrases struct {
	levels                                          map[alert.Severity]string
	test, unacknowledged, since, known              string
	over, more, many, worst, digest, allOver, pulse string
}

var languages = map[string]phrases{
	"vi": {
		levels: map[alert.Severity]string{alert.Info: "Thông tin", alert.Warning: "Cảnh báo", alert.Critical: "Nghiêm trọng", alert.Emergency: "KHẨN CẤP"},
		test:   "THỬ NGHIỆM", unacknowledged: "CHƯA AI TIẾP NHẬN", since: "từ %s", known: "biết lúc %s", over: "Đã hết %s–%s",
		more: "… và %d cảnh báo khác", many: "%d cảnh báo", worst: "%s, nặng nhất: %s", digest: "Tổng hợp: %d đang diễn ra, %d đã hết", allOver: "Đã hết: %d cảnh báo",
		pulse: "Langbiang hoạt động bình thường. %d cảnh báo đang diễn ra.",
	},
	"en": {
		levels: map[alert.Severity]string{alert.Info: "Info", alert.Warning: "Warning", alert.Critical: "Critical", alert.Emergency: "EMERGENCY"},
		test:   "TEST", unacknowledged: "NOT ACKNOWLEDGED", since: "since %s", known: "known at %s", over: "Over %s–%s",
		more: "… and %d more", many: "%d alerts", worst: "%s, the worst: %s", digest: "Digest: %d active, %d over", allOver: "Over: %d alerts",
		pulse: "Langbiang lives. %d alerts are active.",
	},
}

func clock(t time.Time) string { return t.In(hanoi).Format("15:04 02/01") }

// pick chooses the language of a text, or the other where there is none.
func (p *people) pick(t telemetry.Text) string {
	if p.cfg.Language == "en" {
		return or(t.EN, t.VI)
	}
	return or(t.VI, t.EN)
}

func (p *people) item(a *alert.Alert) item {
	w := languages[or(p.cfg.Language, "vi")]
	x := item{Alert: a, Site: p.pick(p.parts.siteName(a.Site)), Message: or(p.pick(a.Message), a.Rule), Level: w.levels[a.Severity]}
	var b strings.Builder
	if a.Test {
		b.WriteString(w.test + " ")
	}
	b.WriteString("[" + x.Level + "] ")
	if x.Site != "" && !strings.Contains(x.Message, x.Site) {
		b.WriteString(x.Site + ": ")
	}
	b.WriteString(strings.TrimSuffix(x.Message, "."))
	if a.State != alert.Active && a.End != nil {
		b.WriteString(". " + fmt.Sprintf(w.over, clock(a.Start), clock(*a.End)))
		x.Line = b.String()
		return x
	}
	details := []string{fmt.Sprintf(w.since, clock(a.Start))} // the message says the value, as its rule wants it said
	if a.Recorded.Sub(a.Start) >= lateFrom && a.Recorded.Sub(a.Updated) >= lateFrom {
		details = append(details, fmt.Sprintf(w.known, clock(a.Recorded)))
	}
	b.WriteString(". " + strings.Join(details, ", "))
	x.Line = b.String()
	return x
}

// message writes the notice of a job from its alerts as they are now. It is nil
// when none of what it should call for stands any more.
func (p *people) message(route string, j *job) (m *message, err error) {
	active, gone, err := p.split(j.Alerts)
	if err != nil {
		return nil, err
	}
	if len(j.Alerts) > 0 && len(active) == 0 && len(j.Over) == 0 {
		return nil, nil
	}
	_, over, err := p.split(j.Over)
	if err != nil {
		return nil, err
	}
	over = append(gone, over...)
	w := languages[or(p.cfg.Language, "vi")]
	items := append(active, over...)
	m = &message{ID: fmt.Sprintf("%s-%d-%d", route, j.Made.UnixMilli(), j.Number), Person: j.Person, Reason: j.Reason, Alerts: items}
	head := fmt.Sprintf(w.many, len(active))
	switch {
	case len(items) == 1:
		m.Title = items[0].Line
	case len(active) == 0:
		head = fmt.Sprintf(w.allOver, len(over))
		m.Title = head
	case len(over) > 0:
		head = fmt.Sprintf(w.digest, len(active), len(over))
		m.Title = head
	default:
		m.Title = fmt.Sprintf(w.worst, head, active[0].Line)
	}
	lines := []string{}
	for i := range items {
		if i == maxLines {
			lines = append(lines, fmt.Sprintf(w.more, len(items)-i))
			break
		}
		lines = append(lines, items[i].Line)
	}
	if len(items) > 1 {
		lines = append([]string{head + ":"}, lines...)
	}
	if j.Reason == reasonEscalated {
		m.Title = w.unacknowledged + ": " + m.Title
		lines[0] = w.unacknowledged + ": " + lines[0]
	}
	if p.url != "" {
		link := p.url + "/"
		if len(items) == 1 {
			link += "#/alerts/" + items[0].Alert.ID
		}
		lines = append(lines, link)
	}
	m.Text = strings.Join(lines, "\n")
	m.Title = strings.ReplaceAll(m.Title, "\n", " ")
	return m, nil
}

// split looks the alerts up: those that stand and are not held, worst first, and
// those that are over, oldest first. What is held is in neither.
func (p *people) split(ids []string) (active, over []item, err error) {
	for _, id := range ids {
		a, known, err := p.parts.Log.Alert(id)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case !known:
		case a.State != alert.Active:
			over = append(over, p.item(&a))
		case a.Held() == "":
			active = append(active, p.item(&a))
		}
	}
	slices.SortStableFunc(active, func(a, b item) int {
		return cmp.Or(int(b.Alert.Severity)-int(a.Alert.Severity), a.Alert.Start.Compare(b.Alert.Start))
	})
	slices.SortStableFunc(over, func(a, b item) int { return a.Alert.Start.Compare(b.Alert.Start) })
	return active, over, nil
}

// probe sends a test to each person by every channel that reaches them.
func (p *people) probe(ctx context.Context, name string, tell, by []string, who string) (string, error) {
	w := languages[or(p.cfg.Language, "vi")]
	var said, failed []string
	for _, person := range tell {
		for _, ch := range p.reach(person, by) {
			now := p.parts.Now()
			x := p.item(&testEntry(now).Alert)
			m := &message{
				ID: fmt.Sprintf("%s-test-%d", name, now.UnixNano()), To: p.address(person, ch), Person: person, Reason: reasonTest,
				Title: w.test + ": Langbiang (" + who + ")", Text: x.Line + " (" + who + ")", Alerts: []item{x},
			}
			detail, err := p.channels[ch].send(ctx, m)
			if err != nil {
				failed = append(failed, fmt.Sprintf("%s by %s: %v", person, ch, err))
				continue
			}
			said = append(said, fmt.Sprintf("%s by %s: %s", person, ch, detail))
		}
	}
	if len(failed) > 0 {
		return "", errors.New(strings.Join(append(failed, said...), "; "))
	}
	return strings.Join(said, "; "), nil
}

func (p *people) close() {
	for _, c := range p.channels {
		c.close()
	}
}
