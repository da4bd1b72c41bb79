package alert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The kinds of transition that people make (acts), and the hub's clock for them
// when a time is over.
const (
	Acknowledged   Kind = "acknowledged"
	Unacknowledged Kind = "unacknowledged"
	Commented      Kind = "commented"
	Shelved        Kind = "shelved"
	Unshelved      Kind = "unshelved"
	Assigned       Kind = "assigned"
	Closed         Kind = "closed"
	Reopened       Kind = "reopened"
	Suppressed     Kind = "suppressed"   // a hold has begun
	Unsuppressed   Kind = "unsuppressed" // and ended
	OutOfService   Kind = "out_of_service"
	InService      Kind = "in_service"
)

// The bounds of an act, in bytes and time.
const (
	MaxWho   = 128
	MaxText  = 2000
	MaxKey   = 128
	MaxShelf = 30 * 24 * time.Hour
	MaxHold  = 366 * 24 * time.Hour
)

// Act is what a person did, as the log keeps it. Automatic ones are the hub's own:
// a time was over, or a hold reached the alert.
type Act struct {
	Who       string     `json:"who"`
	Why       string     `json:"why,omitempty"`
	Text      string     `json:"text,omitempty"`     // of a comment
	Until     *time.Time `json:"until,omitempty"`    // of a shelving or a hold
	For       string     `json:"for,omitempty"`      // how long it was asked for, when that is how Until was found
	Assignee  string     `json:"assignee,omitempty"` // empty: nobody any more
	Cause     Cause      `json:"cause,omitempty"`    // of a closing
	Hold      string     `json:"hold,omitempty"`     // id of the hold that did it
	Automatic bool       `json:"automatic,omitempty"`
	// Key names the act within its alert: the same key again is the same act,
	// sent twice. Clients choose it; the ledger does when they do not.
	Key string `json:"key"`
}

// ActResult is what became of an act on one alert.
type ActResult struct {
	Entry    Entry
	Repeated bool  // the act stood in the log already, under this key
	Err      error // a [*Refusal], or nil
}

// Same reports whether it is the same act asked for again. When it was asked for
// how long, its end need not be the same; what the ledger adds does not count.
func (act *Act) Same(o *Act) bool {
	until := act.For != "" || act.Until == nil && o.Until == nil || act.Until != nil && o.Until != nil && act.Until.Equal(*o.Until)
	return until && act.For == o.For && act.Who == o.Who && act.Why == o.Why && act.Text == o.Text && act.Assignee == o.Assignee &&
		act.Cause == o.Cause && act.Key == o.Key && act.Automatic == o.Automatic
}

// Ack says who acknowledged an alert, when (hub's clock), and how bad it was then.
type Ack struct {
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	Severity Severity  `json:"severity"`
}

// Closing says who closed an alert, when (hub's clock), and what had caused it.
type Closing struct {
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Cause Cause     `json:"cause"`
	Why   string    `json:"why,omitempty"`
}

// Cause is what people found behind an alert.
type Cause string

// The causes.
const (
	CauseResolved    Cause = "resolved"     // it was real, and is dealt with
	CauseFalseAlarm  Cause = "false_alarm"  // there was nothing
	CauseSensorFault Cause = "sensor_fault" // the sensor or its line was at fault
	CausePlanned     Cause = "planned"      // work or an event that was known of
	CauseDuplicate   Cause = "duplicate"    // another alert says the same
	CauseOther       Cause = "other"        // the why says what
)

// Causes lists the causes.
func Causes() []Cause {
	return []Cause{CauseResolved, CauseFalseAlarm, CauseSensorFault, CausePlanned, CauseDuplicate, CauseOther}
}

// Refusal is why an act cannot be done: what is wrong and what to do, for the
// person who tried.
type Refusal struct {
	Reason Reason
	What   string
	Do     string
}

// Reason sorts refusals.
type Reason int

// The reasons.
const (
	Invalid   Reason = iota // the act itself is wrong
	NotNow                  // the alert is not in a state for it
	NotFound                // there is no such alert or hold
	KeyReused               // the key has named another act
)

// Error implements error.
func (r *Refusal) Error() string {
	if r.Do == "" {
		return r.What
	}
	return r.What + "; " + r.Do
}

func refuse(reason Reason, do, format string, args ...any) error {
	return &Refusal{Reason: reason, What: fmt.Sprintf(format, args...), Do: do}
}

// Check says what is wrong with an act of a person, whatever its alert: the
// error is a [*Refusal]. Now is the hub's clock.
func (act *Act) Check(kind Kind, now time.Time) error {
	if err := checkWho("who", act.Who); err != nil {
		return err
	}
	for _, f := range []struct {
		name, value string
		limit       int
	}{{"why", act.Why, MaxText}, {"text", act.Text, MaxText}, {"key", act.Key, MaxKey}, {"assignee", act.Assignee, MaxWho}} {
		if err := checkText(f.name, f.value, f.limit); err != nil {
			return err
		}
	}
	switch kind {
	case Acknowledged, Unacknowledged, Unshelved, Reopened:
	case Commented:
		if strings.TrimSpace(act.Text) == "" {
			return refuse(Invalid, `give the comment as "text"`, "the comment is empty")
		}
	case Shelved:
		return checkUntil(act.Until, now, MaxShelf, "a shelving")
	case Assigned:
		if act.Assignee != "" {
			return checkWho("assignee", act.Assignee)
		}
	case Closed:
		if !slices.Contains(Causes(), act.Cause) {
			return refuse(Invalid, "it is one of "+joinCauses(), "%q is no cause", cmp.Or(string(act.Cause), "nothing"))
		}
		if act.Cause == CauseOther && strings.TrimSpace(act.Why) == "" {
			return refuse(Invalid, `say it in "why"`, "the cause is other, and nothing says what")
		}
	default:
		return refuse(Invalid, "", "%q is nothing that a person does to an alert", string(kind))
	}
	return nil
}

func joinCauses() string {
	names := make([]string, len(Causes()))
	for i, c := range Causes() {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}

func checkWho(field, who string) error {
	if strings.TrimSpace(who) == "" {
		return refuse(Invalid, fmt.Sprintf("give the name of the person as %q", field), "%s is empty", field)
	}
	if strings.ContainsFunc(who, unicode.IsControl) {
		return refuse(Invalid, "write it on one line", "%s holds control characters", field)
	}
	return checkText(field, who, MaxWho)
}

func checkText(field, s string, limit int) error {
	switch {
	case len(s) > limit:
		return refuse(Invalid, fmt.Sprintf("at most %d bytes fit", limit), "%s has %d bytes", field, len(s))
	case !utf8.ValidString(s):
		return refuse(Invalid, "send UTF-8", "%s is no text", field)
	}
	return nil
}

func checkUntil(until *time.Time, now time.Time, limit time.Duration, what string) error {
	switch {
	case until == nil || until.IsZero():
		return refuse(Invalid, `give the time as "until", or how long as "for"`, "%s needs an end", what)
	case !until.After(now):
		return refuse(Invalid, `give a time to come as "until", or how long as "for"`, "%s cannot end in the past (%s)", what, until.Format(time.RFC3339))
	case until.Sub(now) > limit:
		return refuse(Invalid, fmt.Sprintf("at most %d days are possible; begin again then", int(limit.Hours())/24), "%s until %s is too long", what, until.Format(time.RFC3339))
	}
	return nil
}

// Apply does a checked act to the alert at now, the hub's clock, or says in a
// [*Refusal] why its state does not allow it. What shelving means for later
// alerts is the ledger's business, see [Hold].
func (a *Alert) Apply(kind Kind, act *Act, now time.Time) error {
	if a.Closed != nil && kind != Commented && kind != Reopened {
		return refuse(NotNow, "reopen it first", "the alert was closed by %s (%s)", a.Closed.By, a.Closed.Cause)
	}
	switch kind {
	case Acknowledged:
		if a.Acknowledged {
			by := "somebody"
			if a.Ack != nil {
				by = a.Ack.By
			}
			return refuse(NotNow, "nothing is left to do", "the alert is acknowledged already, by %s", by)
		}
		a.acknowledge(act.Who, now)
	case Unacknowledged:
		if !a.Acknowledged {
			return refuse(NotNow, "", "the alert is not acknowledged")
		}
		a.Acknowledged, a.Ack = false, nil
	case Commented:
		a.Comments++
	case Shelved:
		if a.State != Active {
			return refuse(NotNow, "close it, with a cause", "the alert has cleared: there is nothing to shelve")
		}
		until := act.Until.UTC()
		a.ShelvedUntil = &until
	case Unshelved:
		if a.ShelvedUntil == nil {
			return refuse(NotNow, "", "the alert is not shelved")
		}
		a.ShelvedUntil = nil
	case Assigned:
		if a.Assignee == act.Assignee {
			return refuse(NotNow, "", "the alert is assigned to %s already", cmp.Or(act.Assignee, "nobody"))
		}
		a.Assignee = act.Assignee
	case Closed:
		if a.State == Active {
			return refuse(NotNow, "mend what causes it and close it once it has cleared; or shelve it until then", "the alert is active")
		}
		if !a.Acknowledged {
			a.acknowledge(act.Who, now)
		}
		a.Closed = &Closing{By: act.Who, At: now, Cause: act.Cause, Why: act.Why}
	case Reopened:
		if a.Closed == nil {
			return refuse(NotNow, "", "the alert is not closed")
		}
		a.Closed = nil
	default:
		return refuse(Invalid, "", "%q is nothing that a person does to an alert", string(kind))
	}
	return nil
}

func (a *Alert) acknowledge(who string, now time.Time) {
	a.Acknowledged, a.Ack = true, &Ack{By: who, At: now, Severity: a.Severity}
}

// Carry takes over from the alert as it was what people did to it; a is the same
// alert after a transition of its rule. An alert that has become worse than it
// was when it was acknowledged calls again: the acknowledgement is gone.
func (a *Alert) Carry(old *Alert) {
	a.Acknowledged, a.Ack = old.Acknowledged, old.Ack
	if a.State == Active && old.Ack != nil && a.Severity > old.Ack.Severity {
		a.Acknowledged, a.Ack = false, nil
	}
	a.Assignee, a.Comments = old.Assignee, old.Comments
	if a.State != Active { // one that runs again after all is closed no longer
		a.Closed = old.Closed
	}
	a.Test, a.TestUntil = a.Test || old.Test, old.TestUntil
}

// ISAState is one of the states of ISA-18.2.
type ISAState string

// The states, with the letters of the standard.
const (
	Normal                ISAState = "normal"                 // A: over, and nothing left to do
	UnacknowledgedActive  ISAState = "unacknowledged"         // B
	AcknowledgedActive    ISAState = "acknowledged"           // C
	ClearedUnacknowledged ISAState = "cleared_unacknowledged" // D
	ShelvedState          ISAState = "shelved"                // E
	SuppressedState       ISAState = "suppressed"             // F: by design
	OutOfServiceState     ISAState = "out_of_service"         // G
)

// ISAStates lists the states.
func ISAStates() []ISAState {
	return []ISAState{
		Normal, UnacknowledgedActive, AcknowledgedActive, ClearedUnacknowledged, ShelvedState, SuppressedState, OutOfServiceState,
	}
}

// Standing is the alert's state by ISA-18.2. An alert that cleared while it was
// kept from calling people asks for nothing.
func (a *Alert) Standing() ISAState {
	held := a.Held()
	switch {
	case a.State == Active && held != "":
		return held
	case a.State == Active && a.Acknowledged:
		return AcknowledgedActive
	case a.State == Active:
		return UnacknowledgedActive
	case a.Acknowledged || held != "":
		return Normal
	}
	return ClearedUnacknowledged
}

// Held says what keeps the alert from calling people, "" when nothing does.
func (a *Alert) Held() ISAState {
	switch {
	case a.OutOfService:
		return OutOfServiceState
	case a.Suppressed != "":
		return SuppressedState
	case a.ShelvedUntil != nil:
		return ShelvedState
	}
	return ""
}
