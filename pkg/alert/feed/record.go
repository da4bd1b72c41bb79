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
