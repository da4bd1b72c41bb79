package feed

import (
	"encoding/json"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Consumer is what is kept durably of a consumer of the alert log.
type Consumer struct {
	Name     string          `json:"name"`
	Position Position        `json:"position"`        // everything up to it is done with
	Held     *Holdup         `json:"held,omitempty"`  // why it does not go on
	State    json.RawMessage `json:"state,omitempty"` // the consumer's own, under a version of its own
}

// Holdup says that a target refuses the entry after the consumer's position.
type Holdup struct {
	Sequence uint64    `json:"sequence"`
	Since    time.Time `json:"since"` // hub's clock
	Reason   string    `json:"reason"`
}

// DeadLetter is an entry that a consumer was made to leave out.
type DeadLetter struct {
	Number   uint64      `json:"number"` // set by the ledger
	Consumer string      `json:"consumer"`
	Entry    alert.Entry `json:"entry"`
	Reason   string      `json:"reason"`        // what the target said
	Who      string      `json:"who,omitempty"` // who skipped it; empty: by itself, as configured
	Why      string      `json:"why,omitempty"`
	At       time.Time   `json:"at"` // hub's clock
}

// Receipt says what became of one message to one person.
type Receipt struct {
	Number   uint64    `json:"number"` // set by the ledger
	Consumer string    `json:"consumer"`
	Reason   string    `json:"reason"` // first, worse, digest, escalation, heartbeat, test
	Person   string    `json:"person"`
	Channel  string    `json:"channel"`
	Sent     bool      `json:"sent"`   // the channel has taken it
	Detail   string    `json:"detail"` // what the channel answered
	Attempts int       `json:"attempts"`
	Alerts   []string  `json:"alerts"`
	Text     string    `json:"text"`
	At       time.Time `json:"at"` // hub's clock
}

// Step is what one step of a consumer leaves: written in one transaction.
type Step struct {
	Consumer Consumer
	Dead     []DeadLetter
	Receipts []Receipt
}

// DeliveryState is what a delivery does.
type DeliveryState string

// The states.
const (
	Delivering DeliveryState = "delivering" // it has entries to give, and gives them
	Idle       DeliveryState = "idle"       // everything is given
	Retrying   DeliveryState = "retrying"   // the target does not answer as it should; it is tried again
	Held       DeliveryState = "held"       // the target refuses an entry; order is kept until somebody skips it
	Stopped    DeliveryState = "stopped"    // the hub stops, or has not begun
)

// Delivery is how it stands with one target.
type Delivery struct {
	Name        string        `json:"name"`
	Kind        string        `json:"kind"`   // webhook, alertmanager, mqtt, route
	Target      string        `json:"target"` // where to, without secrets
	State       DeliveryState `json:"state"`
	Summary     string        `json:"summary"` // in plain words, with what to do
	Position    Position      `json:"position"`
	Lag         uint64        `json:"lag"`         // entries of the log after its position
	LagSeconds  float64       `json:"lag_seconds"` // age of the oldest of those that it is at
	Held        *Holdup       `json:"held"`        // null: it is not
	LastError   string        `json:"last_error"`
	LastErrorAt *time.Time    `json:"last_error_at"`
	NextTry     *time.Time    `json:"next_try"`
	LastSuccess *time.Time    `json:"last_success"`
	Delivered   uint64        `json:"delivered"` // since the hub started
	Failures    uint64        `json:"failures"`  // since the hub started
	Skipped     uint64        `json:"skipped"`   // since the hub started
	Notice      string        `json:"notice,omitempty"`
}
