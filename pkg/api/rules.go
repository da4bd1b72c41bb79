package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// RuleAdmin changes rules and tries them. All methods are safe for concurrent use.
type RuleAdmin interface {
	// Reload reads the rule files anew. What is wrong with them stands in the
	// status; the error says that the hub itself failed.
	Reload() (RulesStatus, error)
	Status() RulesStatus
	// Fire raises a test alert of the rule. Its refusals are [*alert.Refusal].
	Fire(f Fire) (alert.Entry, error)
}

// RulesStatus says which rules hold, and how the last reading of their files went.
type RulesStatus struct {
	Sets []RuleSet `json:"sets"` // in the order in which they take effect; older ones are kept for edges that are behind
	Last *Reload   `json:"last_reload"`
}

// RuleSet is a set of rules and the event time from which it holds.
type RuleSet struct {
	ID    string     `json:"id"`
	From  *time.Time `json:"from"` // null: from the beginning
	Rules int        `json:"rules"`
}

// Reload is one reading of the rule files.
type Reload struct {
	At      time.Time `json:"at"` // hub's clock
	OK      bool      `json:"ok"`
	Changed bool      `json:"changed"` // a new set came of it
	Faults  []Fault   `json:"faults"`
}

// Fault is a mistake in a file.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// Fire asks for a test alert.
type Fire struct {
	Rule     string         `json:"-"`
	Series   string         `json:"series"`   // edge/device/point
	Severity alert.Severity `json:"severity"` // "": the rule's lowest
	For      string         `json:"for"`      // how long it stands; 1m when not said
	Who      string         `json:"who"`
	Why      string         `json:"why"`
}

func (h *Handler) mountRules() {
	if h.cfg.Rules == nil {
		return
	}
	h.handle("GET /api/v1/rules/status", func(w http.ResponseWriter, r *http.Request) {
		if h.allow(w, r) {
			h.json(w, r, h.cfg.Rules.Status())
		}
	})
	h.handle("POST /api/v1/rules/reload", h.reloadRules)
	h.handle("POST /api/v1/rules/{id}/test", h.fireRule)
}

func (h *Handler) reloadRules(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r) {
		return
	}
	st, err := h.cfg.Rules.Reload()
	if err != nil {
		h.internal(w, r, err)
		return
	}
	if st.Last != nil && !st.Last.OK {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		h.encode(w, r, map[string]any{
			"type": "about:blank", "title": "rules with mistakes", "status": http.StatusUnprocessableEntity, "instance": r.URL.Path,
			"detail": "the rules in force stay as they are; mend the files and reload again", "faults": st.Last.Faults,
		})
		return
	}
	h.json(w, r, st)
}

func (h *Handler) fireRule(w http.ResponseWriter, r *http.Request) {
	var f Fire
	if !h.allow(w, r) || !h.body(w, r, &f) {
		return
	}
	f.Rule = r.PathValue("id")
	f.Who = actor(r, f.Who)
	if edge, _, _ := strings.Cut(f.Series, "/"); !h.seesEdge(r, edge, "") {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", "the series is not of one of your sites")
		return
	}
	e, err := h.cfg.Rules.Fire(f)
	if err != nil {
		h.refused(w, r, err)
		return
	}
	h.json(w, r, e)
}
