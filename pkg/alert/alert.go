// Package alert holds the alert model: an [Alert] is one episode of a rule on a
// series, a [Transition] is one step in its life, made by a rule or by a person
// (an [Act]), and an [Entry] is a transition as it stands in the alert log,
// numbered and recorded. A [Hold] keeps alerts from calling people for a time.
// Values and pure functions only: the log itself is in package ledger, the rules
// that raise alerts in package rules.
package alert

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Severity is how bad an alert is. The numbers are stored: never renumber.
type Severity uint8

// The ladder.
const (
	None Severity = iota
	Info
	Warning
	Critical
	Emergency
)

var severityNames = [...]string{"", "info", "warning", "critical", "emergency"}

// String returns the name, "" for None.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("severity_%d", uint8(s))
}

// ParseSeverity is the inverse of String.
func ParseSeverity(name string) (Severity, bool) {
	for i, n := range severityNames {
		if n == name && i > 0 {
			return Severity(i), true
		}
	}
	return None, false
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(b []byte) error {
	v, ok := ParseSeverity(string(b))
	if !ok && len(b) > 0 {
		return fmt.Errorf("severity %q is none of info, warning, critical, emergency", b)
	}
	*s = v
	return nil
}

// State is whether the episode still runs.
type State string

// The states.
const (
	Active  State = "active"
	Cleared State = "cleared"
)

// Kind is what a transition did.
type Kind string

// The kinds of transition that rules make. Those of people and of the hub's
// clock are in act.go.
const (
	Raised          Kind = "raised"
	SeverityChanged Kind = "severity_changed"
	// LevelChanged is a step between two levels that share a severity.
	LevelChanged Kind = "level_changed"
	Ended        Kind = "cleared"
	// Chattered counts on while an alert chatters: at 4, 8, 16 ... activations.
	Chattered Kind = "chattering"
	// Calmed ends the chattering of an alert whose condition still holds.
	Calmed Kind = "quiet"
	// Foreseen raises an alert as provisional; Raised confirms it.
	Foreseen Kind = "provisional"
)

// QuantitySilence is the quantity of alerts about an edge that is not heard.
const QuantitySilence = "edge_silence"

// Alert is one episode. Its JSON form is the API's.
type Alert struct {
	ID           string            `json:"id"`
	Sequence     uint64            `json:"sequence"` // of the entry that this state comes from
	Rule         string            `json:"rule"`
	RuleVersion  string            `json:"rule_version"`
	Severity     Severity          `json:"severity"` // now, or the last one before it cleared
	Level        *Level            `json:"level"`    // of a national ladder; null when the rule's levels have no names
	State        State             `json:"state"`
	ISA          ISAState          `json:"isa_state"` // what follows from the rest, see [Alert.Standing]
	Acknowledged bool              `json:"acknowledged"`
	Ack          *Ack              `json:"acknowledgement"` // by whom; null while not acknowledged
	ShelvedUntil *time.Time        `json:"shelved_until"`
	Suppressed   string            `json:"suppressed"` // why its notices are held back; empty: they are not
	OutOfService bool              `json:"out_of_service"`
	Assignee     string            `json:"assignee"`
	Closed       *Closing          `json:"closed"`   // null while not closed
	Comments     int               `json:"comments"` // how many the log has had
	Chattering   bool              `json:"chattering"`
	Activations  int               `json:"activations"` // how often its condition came; 0 counts as 1
	Provisional  bool              `json:"provisional"`
	Start        time.Time         `json:"start"`    // event time: when it fired
	End          *time.Time        `json:"end"`      // event time; null while active
	Reason       string            `json:"reason"`   // why it ended other than by the value: "rule changed"; else empty
	Updated      time.Time         `json:"updated"`  // event time of the newest transition
	Recorded     time.Time         `json:"recorded"` // hub's clock at the newest transition
	Site         string            `json:"site"`
	Edge         string            `json:"edge"`
	Device       string            `json:"device"`
	Point        string            `json:"point"`
	Quantity     string            `json:"quantity"`
	Labels       map[string]string `json:"labels"`    // the series' and the rule's further labels
	Procedure    string            `json:"procedure"` // address of what to do (SOP); empty when the rule names none
	Links        map[string]string `json:"links"`     // further addresses of the rule, by name
	Onset        time.Time         `json:"onset"`     // event time: when the condition began to hold
	Value        float64           `json:"value"`     // at the newest transition
	Peak         float64           `json:"peak"`      // the worst value since onset
	Limit        float64           `json:"limit"`     // of the present severity
	Unit         string            `json:"unit"`
	Message      telemetry.Text    `json:"message"`
	Test         bool              `json:"test"`
	TestUntil    *time.Time        `json:"test_until,omitempty"` // hub's clock: when a test ends by itself
}

// Level is a level of a national ladder, which may have more of them than there are
// severities: then several share one, and the level tells them apart.
type Level struct {
	ID    string         `json:"id"`    // as the ladder names it, for example "5"
	Rank  int            `json:"rank"`  // 1 is the lowest of the ladder
	Name  telemetry.Text `json:"name"`  // for people
	Color string         `json:"color"` // #rrggbb; may be empty
}

// Below reports whether an alert of the first severity and level is less bad than one
// of the second.
func Below(s Severity, l *Level, than Severity, thanLevel *Level) bool {
	return s < than || s == than && l != nil && thanLevel != nil && l.Rank < thanLevel.Rank
}

// Transition is one step: what happened at event time Time, and the alert as it
// is afterwards (without Sequence and Recorded, which the log adds).
type Transition struct {
	Kind  Kind      `json:"kind"`
	Time  time.Time `json:"time"`          // of acts and of holds: the hub's clock
	Act   *Act      `json:"act,omitempty"` // who did it and why; nil for those of rules
	Alert Alert     `json:"alert"`

	// Counted is the time at which rules of kind several count it, when that is not
	// Time: what an edge tells after its log time has stepped back counts from where
	// it had been.
	Counted *time.Time `json:"counted,omitempty"`
}

// Entry is a transition in the alert log. Sequence counts from 1 without holes.
// A log that was restored from a backup goes on counting where the backup ended,
// in a new generation: the same number may then name two entries, but not the
// same number and generation.
type Entry struct {
	Generation string    `json:"generation"`
	Sequence   uint64    `json:"sequence"`
	Recorded   time.Time `json:"recorded"`
	Transition
}

// Generation is a stretch of the alert log: from sequence First on, up to the
// first of the next generation. A ledger that was restored from a backup starts
// a new one, so that consumers who have seen more of the old one can tell.
type Generation struct {
	ID    string `json:"id"`
	First uint64 `json:"first"`
}

// Key names a transition whatever number it got, so that one raised again by a
// replay after a crash is recognised: alert id, kind, event time and severity;
// for an act alert id and the act's key.
func (t *Transition) Key() string {
	if t.Act != nil {
		return t.Alert.ID + "/act/" + t.Act.Key
	}
	return fmt.Sprintf("%s/%s/%d/%d", t.Alert.ID, t.Kind, t.Time.UnixMilli(), t.Alert.Severity)
}

// NewID returns the id of the alert that rule (in this version) raises on the
// series at start: a hash, so that the same episode gets the same id however
// often it is found. Series is its canonical name, see [SeriesKey].
func NewID(rule, version, series string, start int64) string {
	h := sha256.New()
	for _, s := range []string{rule, version, series} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	var t [8]byte
	binary.BigEndian.PutUint64(t[:], uint64(start))
	h.Write(t[:])
	sum := h.Sum(nil)
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
}

// SeriesKey is the canonical name of an edge's series: EDGE/DEVICE/POINT. The
// site is not part of it: an edge that moves keeps its series.
func SeriesKey(edge, device, point string) string { return edge + "/" + device + "/" + point }
