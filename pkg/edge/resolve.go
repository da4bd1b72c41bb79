package edge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func (c *checker) connections(plan *Plan) {
	seen := map[string]int{}
	for i := range c.cfg.Connections {
		cc := &c.cfg.Connections[i]
		c.id(cc.ID, seen, i, "connections")
		sources := cc.sources()
		if len(sources) != 1 {
			if !c.faulted("connections", i) {
				c.fault(fmt.Sprintf("needs exactly one kind, has %d", len(sources)), "one of "+strings.Join(connectionKinds, ", "), "connections", i)
			}
			continue
		}
		src := sources[0]
		src.ApplyDefaults()
		for _, p := range src.Validate() {
			if !c.faulted("connections", i, src.Kind(), p.Field) {
				c.fault(p.Msg, p.Hint, "connections", i, src.Kind(), p.Field)
			}
		}
		if m, ok := src.(*mqtt.Config); ok {
			m.Identify(c.cfg.Edge.ID, cc.ID)
		}
		plan.Connections = append(plan.Connections, Connection{ID: cc.ID, Source: src})
	}
}

// id checks the id of an entry of a list.
func (c *checker) id(id string, seen map[string]int, i int, list string) {
	switch first, dup := seen[id]; {
	case id == "":
		if !c.faulted(list, i, "id") {
			c.fault("must be set", "", list, i, "id")
		}
	case !namePattern.MatchString(id):
		c.fault(fmt.Sprintf("%q is not an id", id), "use letters, digits, _ . and -, at most 128", list, i, "id")
	case dup:
		c.fault(fmt.Sprintf("%q is taken", id), fmt.Sprintf("the entry at %s has it already", c.fleetDoc().At(list, first, "id")), list, i, "id")
	default:
		seen[id] = i
	}
}

func (c *checker) devices(plan *Plan, library *profile.Library) {
	seen := map[string]int{}
	units := map[string]int{} // connection and unit -> device
	total := 0
	for i, dc := range c.entries() {
		c.id(dc.ID, seen, i, "devices")
		conn := slices.IndexFunc(plan.Connections, func(x Connection) bool { return x.ID == dc.Connection })
		if conn < 0 && !c.knownConnection(dc.Connection) && !c.faulted("devices", i, "connection") {
			msg := fmt.Sprintf("there is no connection %q", dc.Connection)
			if dc.Connection == "" {
				msg = "must be set"
			}
			c.fault(msg, strictyaml.Meant(dc.Connection, c.connectionIDs()), "devices", i, "connection")
		}
		d, err := c.device(i, dc, library)
		if err != nil {
			plan.Disabled[dc.ID] = err
			continue
		}
		if d == nil || conn < 0 {
			continue
		}
		switch cn := &plan.Connections[conn]; cn.Source.(type) {
		case *modbus.Config:
			c.modbusDevice(i, dc, d, cn, units)
		case *camera.Config:
			c.cameraDevice(i, dc, d, cn)
		default:
			c.mqttDevice(i, dc, d, cn)
		}
		filters := c.filters(i, dc, d)
		plan.Filters[d] = filters
		if total += len(d.Points) + 1 + furtherPoints(filters); total > telemetry.MaxSeries {
			c.fault("too many points", fmt.Sprintf("an edge has at most %d", telemetry.MaxSeries), "devices", i)
			return
		}
		plan.Devices = append(plan.Devices, d)
		plan.Connections[conn].Devices = append(plan.Connections[conn].Devices, d)
	}
	if len(plan.Devices) > telemetry.MaxDevices {
		c.fault("too many devices", fmt.Sprintf("an edge has at most %d", telemetry.MaxDevices), "devices")
	}
}

func (c *checker) knownConnection(id string) bool {
	return id != "" && slices.Contains(c.connectionIDs(), id)
}

func (c *checker) connectionIDs() []string {
	var ids []string
	for i := range c.cfg.Connections {
		ids = append(ids, c.cfg.Connections[i].ID)
	}
	return ids
}

// device resolves one device. The error is a fault of its profile's own file,
// which disables the device alone; faults of edge.yaml go to the list.
func (c *checker) device(i int, dc *DeviceConfig, library *profile.Library) (*driver.Device, error) {
	d := &driver.Device{ID: dc.ID, Profile: dc.Profile, Interval: dc.Interval}
	before := len(c.errs)
	switch {
	case dc.Interval == 0:
		d.Interval = defaultInterval
	case !c.faulted("devices", i, "interval"):
		c.atLeast(int64(dc.Interval), 100_000_000, "100ms", "devices", i, "interval")
	}
	resolved := &profile.Resolved{}
	if dc.Profile != "" {
		p, err := library.Get(dc.Profile)
		switch {
		case errors.Is(err, profile.ErrUnknown) && c.elsewhere:
			c.warnings = append(c.warnings, c.fleetDoc().Fault([]any{"devices", i, "profile"},
				fmt.Sprintf("there is no profile %q here", dc.Profile), strictyaml.Meant(dc.Profile, library.IDs())+"; if it is one of the gateway's own, the agent judges"))
			return nil, nil
		case errors.Is(err, profile.ErrUnknown):
			c.fault(fmt.Sprintf("there is no profile %q", dc.Profile), strictyaml.Meant(dc.Profile, library.IDs()), "devices", i, "profile")
			return nil, nil
		case err != nil:
			c.warnings = append(c.warnings, c.fleetDoc().Fault([]any{"devices", i, "profile"},
				fmt.Sprintf("profile %s is faulty, so %s is disabled", dc.Profile, dc.ID), err.Error()))
			return nil, err
		}
		r, rerr := p.ResolveDevice(dc.Revision, dc.With)
		if rerr != nil {
			var faults profile.FieldErrors
			if !errors.As(rerr, &faults) {
				return nil, rerr
			}
			for _, f := range faults {
				c.fault(f.Msg, f.Hint, dotted([]any{"devices", i}, f.Field)...)
			}
			return nil, nil
		}
		if err := c.learn(p); err != nil {
			return nil, err
		}
		resolved = r
		d.Revision, d.With = r.Revision, r.With
		d.Modbus, d.MQTT, d.Camera, d.Identify = p.Modbus, r.MQTT, r.Camera, r.Identify
	} else if len(dc.Points) == 0 {
		c.fault("needs a profile or points", "name a profile such as renke/cwt-uwd, or list points: here", "devices", i)
	}
	c.inlinePoints(i, dc)
	resolved.Override(dc.Points...)
	c.labels(i, dc)
	d.Labels = telemetry.NewLabels(dc.Labels)
	d.Points, d.Convert = resolved.Points, c.converts(resolved.Points, dc)
	for _, rev := range resolved.Revisions {
		d.Revisions = append(d.Revisions, driver.Revision{ID: rev.ID, Points: rev.Points, Convert: c.converts(rev.Points, dc)})
	}
	points := d.Points
	for _, name := range slices.Sorted(maps.Keys(dc.Adjust)) {
		if !slices.ContainsFunc(points, func(p profile.Point) bool { return p.ID == name }) {
			c.fault(fmt.Sprintf("the device has no point %q", name), strictyaml.Meant(name, pointIDs(points)), "devices", i, "adjust", name)
		}
	}
	c.urgent(i, dc, d)
	if len(c.errs) > before {
		return nil, nil
	}
	return d, nil
}

// urgent marks the points that edge.yaml calls urgent, beside those of the profile.
func (c *checker) urgent(i int, dc *DeviceConfig, d *driver.Device) {
	for k, name := range dc.Urgent {
		j := slices.IndexFunc(d.Points, func(p profile.Point) bool { return p.ID == name })
		if j < 0 {
			c.fault(fmt.Sprintf("the device has no point %q", name), strictyaml.Meant(name, pointIDs(d.Points)), "devices", i, "urgent", k)
			continue
		}
		d.Points[j].Urgent = true
	}
}

// learn adds the quantities that a profile brings along. Two profiles that call
// different things by one name cannot both be right: the device of the second is
// disabled.
func (c *checker) learn(p *profile.Profile) error {
	for id, q := range p.Catalogue(nil) {
		if known, ok := c.quantities[id]; ok && known.Unit != q.Unit {
			return fmt.Errorf("profile %s: the quantity %q is in %q here and in %q in another profile; give it another name", p.ID, id, q.Unit, known.Unit)
		}
		c.quantities[id] = q
	}
	return nil
}

// inlinePoints checks the points that stand in edge.yaml; one with the id of a
// profile's point replaces it.
func (c *checker) inlinePoints(i int, dc *DeviceConfig) {
	seen := map[string]int{}
	for j := range dc.Points {
		pt := &dc.Points[j]
		if first, dup := seen[pt.ID]; dup && pt.ID != "" {
			c.fault(fmt.Sprintf("%q is taken", pt.ID), fmt.Sprintf("the point at %s has it already", c.fleetDoc().At("devices", i, "points", first, "id")), "devices", i, "points", j, "id")
		} else {
			seen[pt.ID] = j
		}
		for _, e := range profile.CheckPoint(pt, c.quantities) {
			if at := dotted([]any{"devices", i, "points", j}, e.Field); !c.faulted(at...) {
				c.fault(e.Msg, e.Hint, at...)
			}
		}
	}
}

func (c *checker) labels(i int, dc *DeviceConfig) {
	for _, name := range slices.Sorted(maps.Keys(dc.Labels)) {
		switch {
		case slices.Contains(reservedLabels, name):
			c.fault(fmt.Sprintf("the label %q is given by the hub", name), "choose another name", "devices", i, "labels", name)
		case !labelPattern.MatchString(name) || strings.HasPrefix(name, "__"):
			c.fault(fmt.Sprintf("%q is not a label name", name), "use letters, digits and _, not a digit or __ first", "devices", i, "labels", name)
		case len(dc.Labels[name]) > telemetry.MaxValueLen:
			c.fault("too long", fmt.Sprintf("at most %d bytes", telemetry.MaxValueLen), "devices", i, "labels", name)
		}
	}
	if len(dc.Labels) > telemetry.MaxLabels {
		c.fault("too many labels", fmt.Sprintf("at most %d", telemetry.MaxLabels), "devices", i, "labels")
	}
}

func (c *checker) converts(points []profile.Point, dc *DeviceConfig) []driver.Linear {
	out := make([]driver.Linear, len(points))
	for j := range points {
		out[j] = c.convert(&points[j], dc)
	}
	return out
}

// convert joins the conversion to the canonical unit and the adjustment. A unit
// that cannot be converted has been reported by then.
func (c *checker) convert(pt *profile.Point, dc *DeviceConfig) driver.Linear {
	l := driver.Linear{Factor: 1}
	if f, o, ok := pt.Conversion(c.quantities); ok {
		l = driver.Linear{Factor: f, Offset: o}
	}
	if a, ok := dc.Adjust[pt.ID]; ok {
		scale := 1.0
		if a.Scale != nil {
			scale = *a.Scale
		}
		l = driver.Linear{Factor: l.Factor * scale, Offset: l.Offset*scale + a.Offset}
	}
	return l
}

// dotted extends a path by a field such as "valid.max".
func dotted(path []any, field string) []any {
	if field == "" {
		return path
	}
	for part := range strings.SplitSeq(field, ".") {
		path = append(path, part)
	}
	return path
}

// modbusDevice checks what only a device on a Modbus line has.
func (c *checker) modbusDevice(i int, dc *DeviceConfig, d *driver.Device, cn *Connection, units map[string]int) {
	switch {
	case dc.Unit != nil:
		d.Unit = *dc.Unit
	case d.Modbus.Unit != 0:
		d.Unit = d.Modbus.Unit
	default:
		c.fault("must be set", "the unit id that the device answers to, 1 to 247", "devices", i, "unit")
		return
	}
	if d.Unit < 0 || d.Unit > 255 {
		c.fault(fmt.Sprintf("%d is not a unit id", d.Unit), "1 to 247 on a serial line, 0 to 255 behind TCP", "devices", i, "unit")
		return
	}
	key := fmt.Sprintf("%s/%d", cn.ID, d.Unit)
	if first, dup := units[key]; dup {
		c.fault(fmt.Sprintf("unit %d of connection %q is read by %q already", d.Unit, cn.ID, c.cfg.Devices[first].ID),
			fmt.Sprintf("see %s; every device on a line needs a unit id of its own", c.fleetDoc().At("devices", first)), "devices", i, "unit")
	} else {
		units[key] = i
	}
	for j := range d.Points {
		if a, _ := d.Points[j].Area(); a == profile.AreaNone {
			c.fault(fmt.Sprintf("point %q has no register, but connection %q is Modbus", d.Points[j].ID, cn.ID),
				"give it holding, input, coil or discrete, or use an MQTT connection", "devices", i, "connection")
			return
		}
	}
}

// mqttDevice refuses points on a broker that are not published.
func (c *checker) mqttDevice(i int, dc *DeviceConfig, d *driver.Device, cn *Connection) {
	c.noUnit(i, dc, cn)
	for j := range d.Points {
		switch d.Points[j].Protocol() {
		case profile.ProtocolModbus:
			c.fault(fmt.Sprintf("point %q is a register, but connection %q is not Modbus", d.Points[j].ID, cn.ID),
				"choose a Modbus connection", "devices", i, "connection")
			return
		case profile.ProtocolCamera:
			c.fault(fmt.Sprintf("point %q is one of a camera, but connection %q is a broker", d.Points[j].ID, cn.ID),
				"choose a connection with camera:", "devices", i, "connection")
			return
		}
	}
}

// cameraDevice checks what only a camera has.
func (c *checker) cameraDevice(i int, dc *DeviceConfig, d *driver.Device, cn *Connection) {
	c.noUnit(i, dc, cn)
	if dc.Interval == 0 {
		d.Interval = cameraInterval
	}
	for _, p := range camera.CheckDevice(d) {
		c.fault(p.Msg, p.Hint, dotted([]any{"devices", i}, p.Field)...)
	}
}

func (c *checker) noUnit(i int, dc *DeviceConfig, cn *Connection) {
	if dc.Unit != nil {
		c.fault(fmt.Sprintf("connection %q is not Modbus", cn.ID), "remove unit, or choose a Modbus connection", "devices", i, "unit")
	}
}

func pointIDs(points []profile.Point) []string {
	var ids []string
	for j := range points {
		ids = append(ids, points[j].ID)
	}
	return ids
}

// describe is the device as the hub shows it.
func describe(d *driver.Device, connection string) telemetry.Device {
	address := d.With["camera"]
	switch p := d.Points[0].Protocol(); {
	case p == profile.ProtocolModbus:
		address = fmt.Sprintf("unit %d", d.Unit)
	case p == profile.ProtocolCamera:
		address = camera.Host(d)
	case address == "":
		address = d.Points[0].Topic
	}
	revision := d.Revision
	if len(d.Revisions) > 0 {
		revision = "" // nobody knows before the device has said it
	}
	return telemetry.Device{ID: d.ID, Profile: d.Profile, Revision: revision, Connection: connection, Address: address}
}
