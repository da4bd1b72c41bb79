package cap

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Namespace is that of CAP 1.2.
const Namespace = "urn:oasis:names:tc:emergency:cap:1.2"

// ContentType is the media type of a document.
const ContentType = "application/cap+xml"

// Scopes are who a document may be for.
func Scopes() []string { return []string{"Public", "Restricted", "Private"} }

// Categories are what an event may be about.
func Categories() []string {
	return []string{"Geo", "Met", "Safety", "Security", "Rescue", "Fire", "Health", "Env", "Transport", "Infra", "CBRNE", "Other"}
}

// Sender is who speaks.
type Sender struct {
	ID       string // without spaces, commas, < and &
	Name     string // as people read it; may be empty
	Scope    string // one of [Scopes]
	Category string // one of [Categories]
	Web      string // address of the alert's page, before its id; may be empty
}

// Place is where an alert is: a circle around its site.
type Place struct {
	ID       string // administrative code or slug
	Name     telemetry.Text
	Province string
	Lat, Lon float64 // degrees
	Radius   float64 // km
	Known    bool    // false: there are no coordinates
}

// Document is one CAP message. Its fields stand in the order of the schema.
type Document struct {
	XMLName     xml.Name `xml:"urn:oasis:names:tc:emergency:cap:1.2 alert"`
	Identifier  string   `xml:"identifier"`
	Sender      string   `xml:"sender"`
	Sent        string   `xml:"sent"`
	Status      string   `xml:"status"`
	MsgType     string   `xml:"msgType"`
	Source      string   `xml:"source,omitempty"`
	Scope       string   `xml:"scope"`
	Restriction string   `xml:"restriction,omitempty"`
	Addresses   string   `xml:"addresses,omitempty"`
	Note        string   `xml:"note,omitempty"`
	References  string   `xml:"references,omitempty"`
	Incidents   string   `xml:"incidents,omitempty"`
	Info        []Info   `xml:"info"`

	Sequence uint64    `xml:"-"` // of the entry that it says
	Time     time.Time `xml:"-"` // when that was recorded
	Headline string    `xml:"-"`
}

// Info is what a document says in one language.
type Info struct {
	Language  string      `xml:"language"`
	Category  string      `xml:"category"`
	Event     string      `xml:"event"`
	Urgency   string      `xml:"urgency"`
	Severity  string      `xml:"severity"`
	Certainty string      `xml:"certainty"`
	EventCode []NamedItem `xml:"eventCode"`
	Effective string      `xml:"effective,omitempty"`
	Onset     string      `xml:"onset,omitempty"`
	// No expires: an alert lasts until its Cancel, and what has expired is thrown away.
	SenderName  string      `xml:"senderName,omitempty"`
	Headline    string      `xml:"headline,omitempty"`
	Description string      `xml:"description,omitempty"`
	Web         string      `xml:"web,omitempty"`
	Parameter   []NamedItem `xml:"parameter"`
	Area        []Area      `xml:"area"`
}

// NamedItem is a name and its value.
type NamedItem struct {
	ValueName string `xml:"valueName"`
	Value     string `xml:"value"`
}

// Area is where it is.
type Area struct {
	AreaDesc string      `xml:"areaDesc"`
	Circle   string      `xml:"circle,omitempty"`
	Geocode  []NamedItem `xml:"geocode"`
}

// zone is Vietnam's. CAP wants an offset in figures and no Z.
var zone = time.FixedZone("+07", 7*3600)

func stamp(t time.Time) string { return t.In(zone).Format("2006-01-02T15:04:05-07:00") }

// Documents returns the documents of an alert from its history, oldest first; none
// when there is no entry of a rule in it.
func Documents(history []alert.Entry, place Place, by Sender) []Document {
	var docs []Document
	var refs []string
	last := alert.None
	for i := range history {
		e := &history[i]
		kind := ""
		switch {
		case e.Act != nil:
			continue
		case e.Alert.State == alert.Cleared:
			kind = "Cancel"
		case len(docs) == 0:
			kind = "Alert"
		case e.Alert.Severity != last || e.Kind == alert.Raised:
			kind = "Update"
		default:
			continue // it chatters
		}
		last = e.Alert.Severity
		if len(docs) == 0 {
			kind = "Alert" // what came before is no longer kept, or it was over at once
		}
		d := document(e, kind, place, by)
		d.References = strings.Join(refs, " ")
		refs = append(refs, d.Sender+","+d.Identifier+","+d.Sent)
		docs = append(docs, d)
	}
	return docs
}

// unsafe are the characters that identifiers and senders must not have.
var unsafe = strings.NewReplacer(" ", "_", ",", "_", "<", "_", "&", "_")

func document(e *alert.Entry, kind string, place Place, by Sender) Document {
	a := &e.Alert
	d := Document{
		Identifier: unsafe.Replace(fmt.Sprintf("langbiang.%s.%s.%d", a.ID, e.Generation, e.Sequence)), Sender: unsafe.Replace(by.ID), Sent: stamp(e.Recorded),
		Status: "Actual", MsgType: kind, Scope: by.Scope, Incidents: a.ID, Sequence: e.Sequence, Time: e.Recorded, Headline: or(a.Message.VI, a.Message.EN),
	}
	switch by.Scope {
	case "Restricted":
		d.Restriction = "For the operations centre and those it informs"
	case "Private":
		d.Addresses = unsafe.Replace(by.ID)
	}
	if a.Test {
		d.Status = "Exercise"
		d.Note = "Test or drill: " + or(a.Message.EN, a.Message.VI)
	}
	for _, lang := range []string{"vi-VN", "en"} {
		d.Info = append(d.Info, info(e, lang, place, by))
	}
	return d
}

// severities are ours in CAP's words: emergency is the only extraordinary threat.
var severities = map[alert.Severity]string{alert.Info: "Minor", alert.Warning: "Moderate", alert.Critical: "Severe", alert.Emergency: "Extreme"}

func info(e *alert.Entry, lang string, place Place, by Sender) Info {
	a := &e.Alert
	pick := func(t telemetry.Text) string {
		if lang == "en" {
			return or(t.EN, t.VI)
		}
		return or(t.VI, t.EN)
	}
	urgency := "Immediate"
	if a.State == alert.Cleared {
		urgency = "Past"
	}
	certainty := "Observed"
	if a.Provisional {
		certainty = "Likely"
	}
	severity := severities[a.Severity]
	if severity == "" {
		severity = "Unknown"
	}
	x := Info{
		Language: lang, Category: by.Category, Event: or(pick(a.Message), a.Rule), Urgency: urgency, Severity: severity, Certainty: certainty,
		EventCode: []NamedItem{{"langbiang:rule", a.Rule}}, Effective: stamp(e.Recorded), Onset: stamp(a.Start), SenderName: by.Name,
		Headline: headline(a, pick(place.Name), pick(a.Message), lang), Description: describe(a, lang),
		Area: []Area{area(place, pick(place.Name), a.Site)},
	}
	if by.Web != "" {
		x.Web = by.Web + a.ID
	}
	param := func(name, value string) {
		if value != "" {
			x.Parameter = append(x.Parameter, NamedItem{name, value})
		}
	}
	param("langbiang:severity", a.Severity.String())
	param("langbiang:series", alert.SeriesKey(a.Edge, a.Device, a.Point))
	param("langbiang:quantity", a.Quantity)
	param("langbiang:value", number(a.Value, a.Unit))
	param("langbiang:peak", number(a.Peak, a.Unit))
	param("langbiang:limit", number(a.Limit, a.Unit))
	return x
}

func number(v float64, unit string) string {
	return strings.TrimSpace(strconv.FormatFloat(v, 'g', 6, 64) + " " + unit)
}

func headline(a *alert.Alert, site, message, lang string) string {
	text := or(message, a.Rule)
	if site != "" && !strings.Contains(text, site) {
		text = site + ": " + text
	}
	switch {
	case a.State == alert.Active:
	case lang == "en":
		text = "Over: " + text
	default:
		text = "Đã hết: " + text
	}
	if a.Test && !strings.HasPrefix(message, "TEST") && !strings.HasPrefix(message, "THỬ") {
		text = map[bool]string{true: "TEST: ", false: "THỬ NGHIỆM: "}[lang == "en"] + text
	}
	return text
}

func describe(a *alert.Alert, lang string) string {
	from, end := a.Start.In(zone).Format("15:04 02/01/2006"), ""
	if a.End != nil {
		end = a.End.In(zone).Format("15:04 02/01/2006")
	}
	value, limit := number(a.Value, a.Unit), number(a.Limit, a.Unit)
	switch {
	case lang == "en" && end != "":
		return fmt.Sprintf("From %s to %s (+07:00). Last value %s, limit %s, worst %s.", from, end, value, limit, number(a.Peak, a.Unit))
	case lang == "en":
		return fmt.Sprintf("Since %s (+07:00). Value %s, limit %s.", from, value, limit)
	case end != "":
		return fmt.Sprintf("Từ %s đến %s. Giá trị cuối %s, ngưỡng %s, cao nhất %s.", from, end, value, limit, number(a.Peak, a.Unit))
	}
	return fmt.Sprintf("Từ %s. Giá trị %s, ngưỡng %s.", from, value, limit)
}

func area(p Place, name, site string) Area {
	x := Area{AreaDesc: or(name, site), Geocode: []NamedItem{{"langbiang:site", site}}}
	if p.Province != "" {
		x.AreaDesc += ", " + p.Province
	}
	if p.Known {
		x.Circle = fmt.Sprintf("%s,%s %s", strconv.FormatFloat(p.Lat, 'f', -1, 64), strconv.FormatFloat(p.Lon, 'f', -1, 64), strconv.FormatFloat(p.Radius, 'f', -1, 64))
	}
	return x
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Encode writes the document as XML.
func (d *Document) Encode() ([]byte, error) {
	b, err := xml.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("CAP document %s: %w", d.Identifier, err)
	}
	return append(append([]byte(xml.Header), b...), '\n'), nil
}

// Entry is one document in a feed.
type Entry struct {
	ID      string
	Title   string
	Updated time.Time
	Link    string
}

type atom struct {
	XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	ID      string      `xml:"id"`
	Title   string      `xml:"title"`
	Updated string      `xml:"updated"`
	Author  atomAuthor  `xml:"author"`
	Link    []atomLink  `xml:"link"`
	Entry   []atomEntry `xml:"entry"`
}

type atomAuthor struct {
	Name string `xml:"name"`
}

type atomLink struct {
	Rel  string `xml:"rel,attr"`
	Type string `xml:"type,attr"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	ID      string   `xml:"id"`
	Title   string   `xml:"title"`
	Updated string   `xml:"updated"`
	Link    atomLink `xml:"link"`
}

// Feed writes an Atom feed (RFC 4287) of documents, newest first. Self is its own
// address; now is its time when it is empty.
func Feed(self, author string, entries []Entry, now time.Time) ([]byte, error) {
	f := atom{ID: "urn:langbiang:cap:" + unsafe.Replace(author), Title: "Langbiang: CAP 1.2", Updated: now.UTC().Format(time.RFC3339), Author: atomAuthor{author}, Link: []atomLink{{"self", "application/atom+xml", self}}}
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return b.Updated.Compare(a.Updated) })
	for i, e := range entries {
		updated := e.Updated.UTC().Format(time.RFC3339)
		if i == 0 {
			f.Updated = updated
		}
		f.Entry = append(f.Entry, atomEntry{ID: "urn:langbiang:" + e.ID, Title: or(e.Title, e.ID), Updated: updated, Link: atomLink{"alternate", ContentType, e.Link}})
	}
	b, err := xml.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("CAP feed: %w", err)
	}
	return append(append([]byte(xml.Header), b...), '\n'), nil
}
