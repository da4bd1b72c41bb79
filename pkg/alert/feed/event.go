package feed

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// TypePrefix begins the type of every event.
const TypePrefix = "io.github.langbiang."

// The types of events. Those of alerts are TypeAlert and the kind of the entry.
const (
	TypeAlert      = TypePrefix + "alert."
	TypeHello      = TypePrefix + "stream.hello"
	TypeHeartbeat  = TypePrefix + "stream.heartbeat"
	TypeTrimmed    = TypePrefix + "stream." + string(Trimmed)
	TypeGeneration = TypePrefix + "stream." + string(NewGeneration)
	TypeTest       = TypePrefix + "stream.test"
)

// ContentType is the media type of one event as JSON.
const ContentType = "application/cloudevents+json"

// DefaultSource is the source of events where the hub was given no address.
const DefaultSource = "/langbiang"

// Event is a CloudEvents 1.0 envelope in its JSON form, with the extensions
// recordedtime, sequence and severity. Source and ID together name it: the same
// entry has the same ID however often and by whatever way it comes.
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"` // of an alert's entry its position
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"` // id of the alert
	Time            time.Time       `json:"time"`              // event time; of acts the hub's clock
	RecordedTime    *time.Time      `json:"recordedtime,omitempty"`
	Sequence        string          `json:"sequence,omitempty"`     // 20 digits, so that their order as text is theirs
	SeverityText    string          `json:"severitytext,omitempty"` // of the alert after it
	SeverityNumber  int             `json:"severitynumber,omitempty"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`
}

// severityNumbers are those of OpenTelemetry's log model, which the extension takes.
var severityNumbers = map[alert.Severity]int{alert.Info: 9, alert.Warning: 13, alert.Critical: 17, alert.Emergency: 21}

// EventOf puts the entry into its envelope.
func EventOf(e *alert.Entry, source string) (Event, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return Event{}, fmt.Errorf("entry %d: %w", e.Sequence, err)
	}
	recorded := e.Recorded
	return Event{
		SpecVersion: "1.0", ID: Position{e.Generation, e.Sequence}.String(), Source: source, Type: TypeAlert + string(e.Kind),
		Subject: e.Alert.ID, Time: e.Time, RecordedTime: &recorded, Sequence: fmt.Sprintf("%020d", e.Sequence),
		SeverityText: e.Alert.Severity.String(), SeverityNumber: severityNumbers[e.Alert.Severity],
		DataContentType: "application/json", Data: data,
	}, nil
}

// Told is the data of events that are no entry: a position, and for notices the
// first entry that follows.
type Told struct {
	Generation string `json:"generation"`
	Sequence   uint64 `json:"sequence"` // the last entry before it
	First      uint64 `json:"first,omitempty"`
}

// Telling makes an event that is no entry: hello, heartbeat, a notice, a test.
// Now is the hub's clock.
func Telling(kind, source string, told Told, now time.Time) Event {
	data, _ := json.Marshal(told) // numbers and a word: never fails
	at := Position{told.Generation, told.Sequence}
	return Event{
		SpecVersion: "1.0", ID: fmt.Sprintf("%s/%s/%d", at, kind[len(TypePrefix):], now.UnixNano()), Source: source, Type: kind,
		Time: now.UTC(), Sequence: fmt.Sprintf("%020d", told.Sequence), DataContentType: "application/json", Data: data,
	}
}

// Event returns the notice as an event.
func (n *Notice) Event(source string, now time.Time) Event {
	return Telling(TypePrefix+"stream."+string(n.Kind), source, Told{n.Generation, n.First - 1, n.First}, now)
}

// Entry returns the entry that the event holds; ok is false when it holds none.
func (e *Event) Entry() (entry alert.Entry, ok bool, err error) {
	if len(e.Type) <= len(TypeAlert) || e.Type[:len(TypeAlert)] != TypeAlert {
		return entry, false, nil
	}
	if err := json.Unmarshal(e.Data, &entry); err != nil {
		return entry, false, fmt.Errorf("event %.80q: %w", e.ID, err)
	}
	return entry, true, nil
}
