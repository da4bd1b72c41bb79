package deliver

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// hanoi is Vietnam's time, which has no summer time.
var hanoi = time.FixedZone("+07", 7*3600)

// functions are what templates may use beside those of package text/template.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	},
	"query": url.QueryEscape,
	"local": func(t time.Time) string { return t.In(hanoi).Format("15:04 02/01/2006") },
	"ascii": unaccent,
	"short": func(n int, s string) string {
		r := []rune(s)
		return string(r[:min(n, len(r))])
	},
	"upper": strings.ToUpper,
}

func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("body").Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	return t, nil
}

// eventData is what the template of a webhook's body sees.
type eventData struct {
	Event   *feed.Event
	Entry   *alert.Entry
	Alert   *alert.Alert
	Site    telemetry.Text // name of the alert's site
	Message telemetry.Text
}

func templateData(e *feed.Event, entry *alert.Entry, parts *Parts) eventData {
	return eventData{Event: e, Entry: entry, Alert: &entry.Alert, Site: parts.siteName(entry.Alert.Site), Message: entry.Alert.Message}
}

// siteName is the name of a site, its id where there is none.
func (p *Parts) siteName(id string) telemetry.Text {
	s, _ := p.Site(id)
	return telemetry.Text{VI: or(s.Name.VI, or(s.Name.EN, id)), EN: or(s.Name.EN, or(s.Name.VI, id))}
}

// testEntry is what tests and checks of templates are made with.
func testEntry(now time.Time) *alert.Entry {
	now = now.UTC().Truncate(time.Millisecond)
	return &alert.Entry{Generation: "test", Recorded: now, Transition: alert.Transition{Kind: alert.Raised, Time: now, Alert: alert.Alert{
		ID: "test", Rule: "test", Severity: alert.Info, State: alert.Active, ISA: alert.UnacknowledgedActive, Start: now, Onset: now, Updated: now, Recorded: now,
		Test: true, Labels: map[string]string{}, Message: telemetry.Text{VI: "Thử nghiệm từ Langbiang", EN: "A test of Langbiang"},
	}}}
}

// unaccent writes Vietnamese without accents, for gateways that count an accented
// message as three.
func unaccent(s string) string { return accents.Replace(s) }

var accents = func() *strings.Replacer {
	var pairs []string
	for plain, all := range map[string]string{
		"a": "àáảãạăằắẳẵặâầấẩẫậ", "e": "èéẻẽẹêềếểễệ", "i": "ìíỉĩị", "o": "òóỏõọôồốổỗộơờớởỡợ", "u": "ùúủũụưừứửữự", "y": "ỳýỷỹỵ", "d": "đ",
	} {
		for _, r := range all {
			pairs = append(pairs, string(r), plain, strings.ToUpper(string(r)), strings.ToUpper(plain))
		}
	}
	for mark := rune(0x300); mark < 0x324; mark++ { // written as marks of their own
		pairs = append(pairs, string(mark), "")
	}
	return strings.NewReplacer(append(pairs, "\u031b", "", "µ", "u", "³", "3", "²", "2", "–", "-", "…", "...")...)
}()
