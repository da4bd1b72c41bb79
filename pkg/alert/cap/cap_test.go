package cap

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The schema of CAP 1.2 as its text has it (section 3.2 and the XSD of section
// 3.4): the elements of each part in their order, which must be there (1), may be
// (0), and may be more than once (many).
type element struct {
	name    string
	least   int
	many    bool
	content func(string) bool // nil: it has children
}

func oneOf(words ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(words, s) }
}

func matches(pattern string) func(string) bool {
	return regexp.MustCompile("^(?:" + pattern + ")$").MatchString
}

var (
	anything  = func(string) bool { return true }
	dateTime  = matches(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d`)
	plainText = matches(`[^ ,<&]+`)
	parts     = map[string][]element{
		"alert": {
			{"identifier", 1, false, plainText},
			{"sender", 1, false, plainText},
			{"sent", 1, false, dateTime},
			{"status", 1, false, oneOf("Actual", "Exercise", "System", "Test", "Draft")},
			{"msgType", 1, false, oneOf("Alert", "Update", "Cancel", "Ack", "Error")},
			{"source", 0, false, anything},
			{"scope", 1, false, oneOf("Public", "Restricted", "Private")},
			{"restriction", 0, false, anything},
			{"addresses", 0, false, anything},
			{"code", 0, true, anything},
			{"note", 0, false, anything},
			{"references", 0, false, matches(`[^ ,<&]+,[^ ,<&]+,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d( [^ ,<&]+,[^ ,<&]+,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d)*`)},
			{"incidents", 0, false, anything},
			{"info", 0, true, nil},
		},
		"info": {
			{"language", 0, false, matches(`[a-z]{2}(-[A-Z]{2})?`)},
			{"category", 1, true, oneOf(Categories()...)},
			{"event", 1, false, matches(`(?s).+`)},
			{"responseType", 0, true, anything},
			{"urgency", 1, false, oneOf("Immediate", "Expected", "Future", "Past", "Unknown")},
			{"severity", 1, false, oneOf("Extreme", "Severe", "Moderate", "Minor", "Unknown")},
			{"certainty", 1, false, oneOf("Observed", "Likely", "Possible", "Unlikely", "Unknown")},
			{"audience", 0, false, anything},
			{"eventCode", 0, true, nil},
			{"effective", 0, false, dateTime},
			{"onset", 0, false, dateTime},
			{"expires", 0, false, dateTime},
			{"senderName", 0, false, anything},
			{"headline", 0, false, anything},
			{"description", 0, false, anything},
			{"instruction", 0, false, anything},
			{"web", 0, false, anything},
			{"contact", 0, false, anything},
			{"parameter", 0, true, nil},
			{"resource", 0, true, nil},
			{"area", 0, true, nil},
		},
		"eventCode": {{"valueName", 1, false, anything}, {"value", 1, false, anything}},
		"parameter": {{"valueName", 1, false, anything}, {"value", 1, false, anything}},
		"geocode":   {{"valueName", 1, false, anything}, {"value", 1, false, anything}},
		"area": {
			{"areaDesc", 1, false, matches(`(?s).+`)},
			{"polygon", 0, true, anything},
			{"circle", 0, true, circle},
			{"geocode", 0, true, nil},
			{"altitude", 0, false, anything},
			{"ceiling", 0, false, anything},
		},
	}
)

func circle(s string) bool {
	var lat, lon, km float64
	if _, err := fmt.Sscanf(s, "%g,%g %g", &lat, &lon, &km); err != nil {
		return false
	}
	return lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180 && km >= 0 && !strings.Contains(s, "e")
}

// validate reads a document strictly by the table.
func validate(doc []byte) error {
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		if s, ok := tok.(xml.StartElement); ok {
			if s.Name.Space != Namespace || s.Name.Local != "alert" {
				return fmt.Errorf("the root is %v", s.Name)
			}
			if err := children(d, "alert"); err != nil {
				return err
			}
			for {
				tok, err := d.Token()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if c, ok := tok.(xml.CharData); err != nil || !ok || strings.TrimSpace(string(c)) != "" {
					return fmt.Errorf("after the root: %v %w", tok, err)
				}
			}
		}
	}
}

func children(d *xml.Decoder, part string) error {
	list := parts[part]
	at, n := 0, 0
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch x := tok.(type) {
		case xml.CharData:
			if strings.TrimSpace(string(x)) != "" {
				return fmt.Errorf("%s holds text %q", part, x)
			}
		case xml.EndElement:
			for _, e := range list[at:] {
				if e.least > n {
					return fmt.Errorf("%s has no %s", part, e.name)
				}
				n = 0
			}
			return nil
		case xml.StartElement:
			if x.Name.Space != Namespace || len(x.Attr) > 0 {
				return fmt.Errorf("%v in %s", x, part)
			}
			for at < len(list) && list[at].name != x.Name.Local {
				if list[at].least > n {
					return fmt.Errorf("%s has no %s before %s", part, list[at].name, x.Name.Local)
				}
				at, n = at+1, 0
			}
			if at == len(list) {
				return fmt.Errorf("%s stands where it must not in %s", x.Name.Local, part)
			}
			e := list[at]
			if n++; n > 1 && !e.many {
				return fmt.Errorf("%s twice in %s", e.name, part)
			}
			if e.content == nil {
				if err := children(d, e.name); err != nil {
					return err
				}
				continue
			}
			var text string
			if err := d.DecodeElement(&text, &x); err != nil {
				return err
			}
			if !e.content(text) {
				return fmt.Errorf("%s is %q", e.name, text)
			}
		}
	}
}

var (
	place = Place{ID: "24848", Name: telemetry.Text{VI: "Lạc Dương", EN: "Lac Duong"}, Province: "Lâm Đồng", Lat: 12.0107, Lon: 108.4281, Radius: 2.5, Known: true}
	by    = Sender{ID: "ioc@example.vn", Name: "IOC Lâm Đồng", Scope: "Restricted", Category: "Env", Web: "https://hub.example/#/alerts/"}
	start = time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
)

func entry(n int, kind alert.Kind, s alert.Severity, change func(*alert.Entry)) alert.Entry {
	e := alert.Entry{Generation: "6f1c2a", Sequence: uint64(n), Recorded: start.Add(time.Duration(n) * time.Minute), Transition: alert.Transition{
		Kind: kind, Time: start, Alert: alert.Alert{
			ID: "ohht3abddup4", Rule: "pm25-high", Severity: s, State: alert.Active, Start: start, Site: "24848", Edge: "e1", Device: "air-01", Point: "pm2_5",
			Quantity: "pm2_5", Unit: "µg/m³", Value: 61.5, Peak: 70, Limit: 50, Message: telemetry.Text{VI: "Bụi mịn PM2.5 vượt ngưỡng", EN: "PM2.5 & dust < limit"},
		},
	}}
	if kind == alert.Ended {
		end := start.Add(time.Hour)
		e.Alert.State, e.Alert.End = alert.Cleared, &end
	}
	if change != nil {
		change(&e)
	}
	return e
}

func TestAnAlertIsToldAsAlertUpdateCancel(t *testing.T) {
	history := []alert.Entry{
		entry(4, alert.Raised, alert.Warning, nil),
		entry(5, alert.Acknowledged, alert.Warning, func(e *alert.Entry) { e.Act = &alert.Act{Who: "Lan"} }),
		entry(7, alert.SeverityChanged, alert.Critical, nil),
		entry(8, alert.Chattered, alert.Critical, nil),
		entry(9, alert.Ended, alert.Critical, nil),
		entry(10, alert.Closed, alert.Critical, func(e *alert.Entry) { e.Act = &alert.Act{Who: "Lan"}; e.Alert.State = alert.Cleared }),
	}
	docs := Documents(history, place, by)
	var all []byte
	for i := range docs {
		b, err := docs[i].Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(b); err != nil {
			t.Errorf("document %d: %v\n%s", i, err, b)
		}
		all = append(all, b...)
	}
	golden(t, "episode.xml", all)
	types := []string{}
	for _, d := range docs {
		types = append(types, d.MsgType+strconv.Itoa(strings.Count(d.References, ",")/2))
	}
	if fmt.Sprint(types) != "[Alert0 Update1 Cancel2]" {
		t.Error(types)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs; run with -update and look at it:\n%s", path, got)
	}
}

func TestADrillIsAnExercise(t *testing.T) {
	e := entry(1, alert.Raised, alert.Emergency, func(e *alert.Entry) { e.Alert.Test = true })
	d := Documents([]alert.Entry{e}, place, by)[0]
	if d.Status != "Exercise" || !strings.HasPrefix(d.Info[0].Headline, "THỬ NGHIỆM") || !strings.HasPrefix(d.Info[1].Headline, "TEST") || d.Info[0].Severity != "Extreme" {
		t.Errorf("%+v", d)
	}
}

func TestWhatIsNoLongerKeptDoesNotBreakTheOrder(t *testing.T) {
	docs := Documents([]alert.Entry{entry(9, alert.Ended, alert.Warning, nil)}, Place{}, by)
	if len(docs) != 1 || docs[0].MsgType != "Alert" || docs[0].References != "" || docs[0].Info[0].Urgency != "Past" {
		t.Errorf("%+v", docs)
	}
	if docs := Documents(nil, place, by); docs != nil {
		t.Errorf("%+v", docs)
	}
}

// Whatever stands in an alert, the document is valid.
func TestEveryDocumentIsValid(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "a", "x, <y> & z", "đường\nngập", "\x00\x01", strings.Repeat("dài ", 300), "]]>", "\xff\xfe"}
	pick := func() string { return texts[rnd.IntN(len(texts))] }
	for range 300 {
		var history []alert.Entry
		for n := range 1 + rnd.IntN(6) {
			kind := []alert.Kind{alert.Raised, alert.SeverityChanged, alert.Ended, alert.Chattered, alert.Foreseen}[rnd.IntN(5)]
			history = append(history, entry(n+1, kind, alert.Severity(rnd.IntN(6)), func(e *alert.Entry) {
				e.Alert.Message = telemetry.Text{VI: pick(), EN: pick()}
				e.Alert.Rule, e.Alert.Unit, e.Alert.Site, e.Alert.Test = "r"+pick(), pick(), "s"+pick(), rnd.IntN(2) == 0
				e.Alert.Value, e.Alert.Provisional = rnd.NormFloat64()*1e9, rnd.IntN(2) == 0
			}))
		}
		p := place
		p.Name, p.Province, p.Known = telemetry.Text{VI: pick(), EN: pick()}, pick(), rnd.IntN(2) == 0
		p.Lat, p.Lon, p.Radius = rnd.Float64()*180-90, rnd.Float64()*360-180, rnd.Float64()*1e-7
		s := by
		s.ID, s.Name, s.Scope = "s"+pick(), pick(), Scopes()[rnd.IntN(3)]
		for _, d := range Documents(history, p, s) {
			b, err := d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(b); err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
		}
	}
}

func TestTheFeedIsNewestFirst(t *testing.T) {
	b, err := Feed("https://hub.example/api/v1/cap", "ioc@example.vn", []Entry{
		{ID: "a", Title: "Alert: old", Updated: start, Link: "https://hub.example/a"},
		{ID: "b", Title: "Alert: new & <bold>", Updated: start.Add(time.Hour), Link: "https://hub.example/b"},
	}, start)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "feed.xml", b)
}
