package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/bus"
	"github.com/langbiang/langbiang/pkg/edge"
	"github.com/langbiang/langbiang/pkg/fleet"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/wire"
)

// edgeConfigs implements [api.EdgeConfigs].
type edgeConfigs struct{ hub *Hub }

// openEdgeConfigs makes what keeps the configurations of edges.
func (h *Hub) openEdgeConfigs() (err error) {
	h.configs, err = fleet.Open(fleet.Config{
		Store: h.ledger, Logger: h.logger,
		Publish: func(edge string, payload []byte) error { return h.bus.Publish(edge, bus.KindConfig, payload) },
		Connected: func(edge string) bool {
			e, ok := h.ingest.Edge(edge)
			return ok && e.Connected
		},
		Note: func(edge, what string) {
			h.logger.Info("configuration of an edge", "edge", edge, "what", what)
			if err := h.ledger.RecordEvent(ledger.Event{Edge: edge, Kind: "configuration", Text: what}); err != nil {
				h.logger.Debug("event not recorded", "edge", edge, "err", err)
			}
			if err := h.ledger.Audit(ledger.AuditEntry{Who: "edge " + edge, Act: "edge config", Target: edge, Result: clip(what)}); err != nil {
				h.logger.Debug("audit log not written", "edge", edge, "err", err)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("configurations of edges: %w", err)
	}
	h.metrics.MustRegister(configCollector{h.configs})
	return nil
}

var descConfigs = prometheus.NewDesc("langbiang_hub_edge_configs", "Edges by how it stands between what they are to run and what they run.", []string{"state"}, nil)

// configCollector counts edges by the state of their configuration.
type configCollector struct{ fleet *fleet.Fleet }

// Describe implements [prometheus.Collector].
func (c configCollector) Describe(ch chan<- *prometheus.Desc) { ch <- descConfigs }

// Collect implements [prometheus.Collector].
func (c configCollector) Collect(ch chan<- prometheus.Metric) {
	n := map[fleet.State]int{}
	for _, s := range c.fleet.All() {
		n[s.State]++
	}
	for _, s := range fleet.States {
		ch <- prometheus.MustNewConstMetric(descConfigs, prometheus.GaugeValue, float64(n[s]), string(s))
	}
}

func configStatus(s *fleet.Status) api.ConfigStatus {
	out := api.ConfigStatus{State: string(s.State), Owner: s.Owner, Running: s.Running, Detail: s.Detail}
	if s.Wanted != nil {
		out.Desired = s.Wanted.Version
	}
	return out
}

func configVersion(v *fleet.Version) api.ConfigVersion {
	out := api.ConfigVersion{Version: v.Version, Name: v.Name, Bytes: v.Bytes, Who: v.Who, Why: v.Why, At: v.At, Cleared: v.Cleared}
	if !v.Hash.IsZero() {
		out.Hash = v.Hash.String()
	}
	return out
}

// refusal makes of an error what the API answers.
func (edgeConfigs) refusal(err error) error {
	status := 0
	switch {
	case errors.Is(err, fleet.ErrChanged):
		status = http.StatusPreconditionFailed
	case errors.Is(err, fleet.ErrNoVersion):
		status = http.StatusNotFound
	case errors.Is(err, fleet.ErrSilent):
		status = http.StatusGatewayTimeout
	case errors.Is(err, fleet.ErrNotShown):
		status = http.StatusConflict
	case errors.Is(err, fleet.ErrInvalid):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, wire.ErrTooLarge), errors.Is(err, wire.ErrInvalid):
		status = http.StatusRequestEntityTooLarge
	default:
		return err
	}
	return &api.Refusal{Status: status, What: err.Error()}
}

// of refuses ids that no edge can have, and sources inside the hub.
func (c edgeConfigs) of(id string) error {
	switch {
	case !bus.ValidEdge(id):
		return &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("%.80q is no id of an edge: 1 to 63 of a-z, 0-9 and -", id)}
	case c.hub.sources.has(id):
		return &api.Refusal{Status: http.StatusConflict, What: id + " is a source of pushed data: there is no agent to configure"}
	}
	return nil
}

// Config implements [api.EdgeConfigs].
func (c edgeConfigs) Config(id string, version uint64) (api.EdgeConfig, error) {
	if err := c.of(id); err != nil {
		return api.EdgeConfig{}, err
	}
	s := c.hub.configs.Status(id)
	out := api.EdgeConfig{Edge: id, ConfigStatus: configStatus(&s), Current: s.Current, Said: pointer(s.Said)}
	if version == 0 && s.Wanted == nil {
		return out, nil
	}
	v, text, err := c.hub.configs.Text(id, version)
	if err != nil {
		return out, c.refusal(err)
	}
	shown := configVersion(&v)
	out.Version, out.Document = &shown, text
	return out, nil
}

// History implements [api.EdgeConfigs].
func (c edgeConfigs) History(id string) []api.ConfigVersion {
	var out []api.ConfigVersion
	for _, v := range c.hub.configs.History(id) {
		out = append(out, configVersion(&v))
	}
	return out
}

// SetConfig implements [api.EdgeConfigs].
func (c edgeConfigs) SetConfig(id string, change api.ConfigChange) (api.ConfigResult, error) {
	out := api.ConfigResult{Edge: id, Warnings: []api.Fault{}}
	if err := c.of(id); err != nil {
		return out, err
	}
	if change.Name == "" {
		change.Name = id + ".yaml"
	}
	if len(change.Document) > wire.MaxConfigText {
		return out, c.refusal(fmt.Errorf("%w: a configuration of %d bytes, at most %d", wire.ErrTooLarge, len(change.Document), wire.MaxConfigText))
	}
	sum, err := edge.CheckDesired(change.Name, id, change.Document)
	var faults strictyaml.Errors
	switch {
	case errors.As(err, &faults):
		return out, &api.Faulty{Faults: api.FaultsOf(faults)}
	case err != nil:
		return out, err
	}
	out.Connections, out.Devices, out.Points, out.Warnings = sum.Connections, sum.Devices, sum.Points, api.FaultsOf(sum.Warnings)
	s := c.hub.configs.Status(id)
	if err := precondition(&s, &change); err != nil {
		return out, err
	}
	if change.DryRun {
		if change.If != nil && *change.If != s.Current {
			return out, c.refusal(fleet.ErrChanged)
		}
		out.Changed = s.Wanted == nil || s.Wanted.Hash != wire.HashConfig(change.Document)
		out.State, out.Detail = string(s.State), s.Detail
		return out, nil
	}
	v, changed, err := c.hub.configs.Set(id, fleet.Setting{Name: change.Name, Text: change.Document, Who: change.Who, Why: change.Why, If: change.If})
	if err != nil {
		return out, c.refusal(err)
	}
	s = c.hub.configs.Status(id)
	out.Version, out.Changed, out.State, out.Detail = v.Version, changed, string(s.State), s.Detail
	return out, nil
}

// precondition wants to know what somebody has seen who overwrites something.
func precondition(s *fleet.Status, c *api.ConfigChange) error {
	if c.If == nil && !c.Any && s.Wanted != nil && !c.DryRun {
		return &api.Refusal{Status: http.StatusPreconditionRequired, What: fmt.Sprintf("version %d of %s stands: send If-Match: \"%d\", the ETag of what you have seen, or If-Match: * to overwrite whatever stands", s.Wanted.Version, s.Wanted.Who, s.Current)}
	}
	return nil
}

// ClearConfig implements [api.EdgeConfigs].
func (c edgeConfigs) ClearConfig(id string, change api.ConfigChange) error {
	if err := c.of(id); err != nil {
		return err
	}
	s := c.hub.configs.Status(id)
	if err := precondition(&s, &change); err != nil {
		return err
	}
	_, err := c.hub.configs.Clear(id, fleet.Setting{Who: change.Who, Why: change.Why, If: change.If})
	if errors.Is(err, fleet.ErrNoVersion) {
		return &api.Refusal{Status: http.StatusNotFound, What: "nothing is wanted of " + id + " that could be cleared"}
	}
	return c.refusalOrNil(err)
}

func (c edgeConfigs) refusalOrNil(err error) error {
	if err == nil {
		return nil
	}
	return c.refusal(err)
}

// RunningConfig implements [api.EdgeConfigs].
func (c edgeConfigs) RunningConfig(ctx context.Context, id string) (api.RunningConfig, error) {
	if err := c.of(id); err != nil {
		return api.RunningConfig{}, err
	}
	t, err := c.hub.configs.Show(ctx, id)
	if err != nil {
		return api.RunningConfig{}, c.refusal(err)
	}
	return api.RunningConfig{Edge: id, Version: t.Version, Name: t.Name, Document: t.Text}, nil
}

// AdoptConfig implements [api.EdgeConfigs].
func (c edgeConfigs) AdoptConfig(ctx context.Context, id string, change api.ConfigChange) (api.ConfigResult, error) {
	s := c.hub.configs.Status(id)
	if err := precondition(&s, &change); err != nil {
		return api.ConfigResult{}, err
	}
	if change.Any {
		change.If = &s.Current // what stood when it was asked for
	}
	has, err := c.RunningConfig(ctx, id)
	if err != nil {
		return api.ConfigResult{}, err
	}
	change.Document, change.Name = has.Document, has.Name
	if change.Why == "" {
		change.Why = "adopted from the gateway"
	}
	return c.SetConfig(id, change)
}
