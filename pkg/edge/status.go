package edge

import (
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// status is what a technician is shown: everything from the devices to the hub.
// A running agent answers it on its socket; without one, the devices are read
// directly and Agent is nil. The JSON form is what `status --json` prints.
type status struct {
	Edge        string             `json:"edge"`
	Simulated   bool               `json:"simulated,omitempty"` // no value is real
	Agent       *agentStatus       `json:"agent"`               // nil: no agent runs
	Connections []connectionStatus `json:"connections"`
	Devices     []deviceStatus     `json:"devices"`
}

// now is the clock by which the times of the status were given: that of the agent,
// which may not know the true time yet.
func (s *status) now() time.Time {
	if s.Agent != nil {
		return s.Agent.Clock.Now
	}
	return time.Now()
}

// agentStatus is how a running agent stands.
type agentStatus struct {
	Version string    `json:"version"`
	Epoch   string    `json:"epoch"`
	Started time.Time `json:"started"`
	Memory  struct {
		Held  int64 `json:"held"`  // by Go, bytes
		Limit int64 `json:"limit"` // soft; 0: none
	} `json:"memory"`
	Clock struct {
		Now     time.Time `json:"now"`
		Trusted bool      `json:"trusted"`
		Era     uint32    `json:"era"`
	} `json:"clock"`
	Hub struct {
		URL       string    `json:"url"`
		Connected bool      `json:"connected"`
		Since     time.Time `json:"since"` // of Connected
		Refusal   string    `json:"refusal,omitempty"`
		Reason    string    `json:"reason,omitempty"` // of the refusal, or why there is no connection
	} `json:"hub"`
	Fleet *fleetStatus `json:"configuration,omitempty"`
	Log   struct {
		Bytes         int64     `json:"bytes"`
		MaxBytes      int64     `json:"max_bytes"`
		Frames        uint64    `json:"frames"`
		UnsafeFrames  uint64    `json:"unsafe_frames"` // that the hub does not hold durably yet
		PendingFrames int       `json:"pending_frames"`
		Oldest        time.Time `json:"oldest,omitzero"`
		GivenUp       uint64    `json:"given_up"` // unsafe frames given up since the start
		Corrupt       int       `json:"corrupt_segments"`
		DiskError     string    `json:"disk_error,omitempty"`
	} `json:"log"`
}

// connectionStatus is a way to devices, and how many of them answer.
type connectionStatus struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Address string `json:"address"`
	Devices int    `json:"devices"`
	Up      int    `json:"up"`
	// Load is the share of its time that a serial line is busy, as planned; above 1
	// readings are missed. Nil for what is no serial line.
	Load *float64 `json:"load,omitempty"`
}

// deviceStatus is one device with its newest values.
type deviceStatus struct {
	ID         string    `json:"id"`
	Profile    string    `json:"profile,omitempty"`
	Revision   string    `json:"revision,omitempty"`
	Connection string    `json:"connection"`
	Address    string    `json:"address"`
	Interval   string    `json:"interval"`
	Up         *bool     `json:"up"` // nil: not heard of yet
	Since      time.Time `json:"since,omitzero"`
	Reason     string    `json:"reason,omitempty"`
	Detail     string    `json:"detail,omitempty"` // one sentence
	Serial     string    `json:"serial,omitempty"` // of the hardware that stands there now, as far as it was noted
	Disabled   string    `json:"disabled,omitempty"`
	// Maintenance is the time until which a technician works on it.
	Maintenance time.Time     `json:"maintenance,omitzero"`
	Points      []pointStatus `json:"points"`
}

// pointStatus is the newest value of a point, in its canonical unit.
type pointStatus struct {
	ID       string    `json:"id"`
	Quantity string    `json:"quantity"`
	Unit     string    `json:"unit"`
	Symbol   string    `json:"symbol"` // the unit as people write it
	Decimals int       `json:"decimals"`
	Value    *float64  `json:"value,omitempty"`
	Text     string    `json:"text,omitempty"`
	Quality  string    `json:"quality,omitempty"` // empty: nothing read yet
	Time     time.Time `json:"time,omitzero"`
}

// newest finds what was read last. Both readers of devices have it: the agent
// with its log, and a direct reading.
type newest interface {
	state(d *driver.Device) (st deviceState, at func(ms int64) time.Time)
	reading(d *driver.Device, point int) (r telemetry.Reading, ok bool)
	// revision is what the device said of itself, or what is taken for it.
	revision(d *driver.Device) string
}

// describeDevices fills in the part of the status that comes from the devices.
// Only is a device's id, or empty for all.
func describeDevices(plan *Plan, src newest, only string) (connections []connectionStatus, devices []deviceStatus) {
	for _, c := range plan.Connections {
		cs := connectionStatus{ID: c.ID, Kind: c.Source.Kind(), Address: addressOf(c.Source)}
		for _, d := range c.Devices {
			ds := describeDevice(plan, src, d, c.ID)
			cs.Devices++
			if ds.Up != nil && *ds.Up {
				cs.Up++
			}
			if only == "" || only == d.ID {
				devices = append(devices, ds)
			}
		}
		if cfg, ok := c.Source.(*modbus.Config); ok {
			if load, worst := lineLoad(cfg, c.Devices); worst != nil {
				cs.Load = &load
			}
		}
		connections = append(connections, cs)
	}
	for id, err := range plan.Disabled {
		if only == "" || only == id {
			devices = append(devices, deviceStatus{ID: id, Disabled: err.Error(), Points: []pointStatus{}})
		}
	}
	order := map[string]int{}
	for i, d := range plan.Devices {
		order[d.ID] = i + 1 // those that are disabled come first: something must be done about them
	}
	slices.SortStableFunc(devices, func(a, b deviceStatus) int { return order[a.ID] - order[b.ID] })
	return connections, devices
}

func describeDevice(plan *Plan, src newest, d *driver.Device, connection string) deviceStatus {
	shown := describe(d, connection)
	ds := deviceStatus{
		ID: d.ID, Profile: d.Profile, Revision: src.revision(d), Connection: connection,
		Address: shown.Address, Interval: d.Interval.String(), Points: []pointStatus{},
	}
	st, at := src.state(d)
	if st.known {
		up := st.up
		ds.Up, ds.Since, ds.Detail = &up, at(st.since), st.detail
		if !up {
			ds.Reason = st.reason.String()
		}
	}
	for i := range d.Points {
		p := &d.Points[i]
		q := plan.Quantities[p.Quantity]
		ps := pointStatus{ID: p.ID, Quantity: p.Quantity, Unit: q.Unit, Symbol: telemetry.UnitSymbol(q.Unit), Decimals: q.Decimals}
		if r, ok := src.reading(d, i); ok {
			ps.Quality, ps.Time = r.Quality.String(), at(r.Time)
			if r.Text != "" {
				ps.Text = r.Text
			} else if !r.Quality.IsBad() {
				v := r.Value
				ps.Value = &v
			}
		}
		ds.Points = append(ds.Points, ps)
	}
	return ds
}

// addressOf is where a connection leads.
func addressOf(src driver.Source) string {
	switch c := src.(type) {
	case *modbus.Config:
		if c.Port != "" {
			return c.Port
		}
		return c.Address
	case *mqtt.Config:
		return c.URL
	}
	return ""
}

// status returns how the agent stands. Safe for concurrent use.
func (a *Agent) status(only string) status {
	s := status{Edge: a.plan.Config.Edge.ID, Simulated: a.plan.Simulated, Agent: &agentStatus{Version: a.version, Epoch: a.recorder.Epoch.String(), Started: a.started}}
	t := a.clock.Now()
	s.Agent.Clock.Now, s.Agent.Clock.Trusted, s.Agent.Clock.Era = time.UnixMilli(t.Ms), t.Trusted, t.Era
	s.Agent.Memory.Held, s.Agent.Memory.Limit = settings.Memory()
	up, hub := a.uplink.Status(), &s.Agent.Hub
	hub.URL, hub.Connected, hub.Since, hub.Reason = a.plan.Config.Hub.URL, up.Connected, up.Since, up.Reason
	if up.Refusal != wire.StatusOK {
		hub.Refusal = up.Refusal.String()
	}
	if a.fleet != nil {
		s.Agent.Fleet = a.fleet.status()
	}
	st, log := a.log.Stats(), &s.Agent.Log
	log.Bytes, log.MaxBytes, log.Frames, log.UnsafeFrames, log.PendingFrames = st.Bytes, st.MaxBytes, st.Frames, st.UnsafeFrames, st.PendingFrames
	log.GivenUp, log.Corrupt, log.DiskError = st.GivenUp, st.CorruptFiles, st.DiskError
	if st.OldestTime > 0 {
		log.Oldest = time.UnixMilli(st.OldestTime)
	}
	s.Connections, s.Devices = describeDevices(a.now.Load(), agentNewest{a}, only)
	for i := range s.Devices {
		if hw := a.hardware.of(s.Devices[i].ID); len(hw) > 0 {
			s.Devices[i].Serial = hw[len(hw)-1].Serial
		}
		if until := a.maintenance.of(s.Devices[i].ID, t.Ms); until > 0 {
			s.Devices[i].Maintenance = time.UnixMilli(until)
		}
	}
	return s
}

// agentNewest are the newest readings of a running agent.
type agentNewest struct{ *Agent }

func (a agentNewest) state(d *driver.Device) (deviceState, func(int64) time.Time) {
	return a.collect.state(d), time.UnixMilli
}

func (a agentNewest) reading(d *driver.Device, point int) (telemetry.Reading, bool) {
	a.collect.mu.Lock()
	first, ok := a.collect.first[d]
	a.collect.mu.Unlock()
	if !ok {
		return telemetry.Reading{}, false // a reload took it away meanwhile
	}
	return a.recorder.values.of(first + uint32(point))
}

func (a agentNewest) revision(d *driver.Device) string {
	a.collect.mu.Lock()
	defer a.collect.mu.Unlock()
	first, ok := a.collect.first[d]
	if !ok {
		return ""
	}
	return a.collect.schema.Devices[a.collect.series[first].Device].Revision
}
