package alert

import "time"

// Counts are the numbers of alerts that are active. Tests are not counted.
type Counts struct {
	// Active ones that are not held: those that call for somebody. By severity,
	// site and rule these are counted.
	Active         int                         `json:"active"`
	Unacknowledged int                         `json:"unacknowledged"`
	Chattering     int                         `json:"chattering"`
	BySeverity     map[Severity]int            `json:"by_severity"`
	BySite         map[string]map[Severity]int `json:"by_site"`
	ByRule         map[string]int              `json:"by_rule"`
	// Active ones that are held, each under the first that holds of out of
	// service, suppressed, shelved.
	Held map[ISAState]int `json:"held"`
}

// Group is what is active of one rule at one site.
type Group struct {
	Site           string           `json:"site"`
	Rule           string           `json:"rule"`
	Severity       Severity         `json:"severity"` // the worst that is not held; "" when all are
	Active         int              `json:"active"`   // as in [Counts]
	Unacknowledged int              `json:"unacknowledged"`
	Chattering     int              `json:"chattering"`
	BySeverity     map[Severity]int `json:"by_severity"`
	Held           int              `json:"held"`
	Since          time.Time        `json:"since"` // start of the earliest
	First          string           `json:"first"` // id of that one: where it began
}
