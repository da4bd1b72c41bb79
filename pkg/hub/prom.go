package hub

import (
	"strings"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/ledger"
)

// activeAlerts is what Prometheus' clients are shown.
func (h *Hub) activeAlerts() ([]alert.Alert, error) {
	var out []alert.Alert
	for cursor := ""; ; {
		list, next, err := h.ledger.Alerts(ledger.Filter{State: alert.Active}, cursor, 1000)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if cursor = next; next == "" || len(out) >= maxShownAlerts {
			return out, nil
		}
	}
}

// maxShownAlerts bounds the alerts that Prometheus' clients are shown at once.
const maxShownAlerts = 10_000

// promRules are the rules as Prometheus' clients see them.
func (h *Hub) promRules() []promapi.Rule {
	var out []promapi.Rule
	for _, r := range h.engine.Rules() {
		p := promapi.Rule{
			Name: r.ID, Query: r.Query, Labels: r.Labels, Error: r.Error, Evaluated: r.Evaluated, Took: r.Took,
			Annotations: map[string]string{"summary": r.Title.EN, "summary_vi": r.Title.VI},
		}
		p.File, _, _ = strings.Cut(r.Position, ":")
		if p.File == "" {
			p.File = "built-in"
		}
		if p.Query == "" {
			p.Query = r.Quantity + r.Where
			if r.Judges != "" {
				p.Query = r.Judges + " of " + p.Query
			}
		}
		if r.Procedure != "" {
			p.Annotations["runbook_url"] = r.Procedure
		}
		if len(r.Levels) > 0 {
			p.For, p.KeepFiring = r.Levels[0].For, r.Levels[0].ClearFor
		}
		out = append(out, p)
	}
	return out
}
