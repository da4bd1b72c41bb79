package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/langbiang/langbiang/pkg/profile"
)

// ErrNoPoint is in the error of [Model.Hold] when the device does not have the point.
var ErrNoPoint = errors.New("no such point")

// Hold lets a point stand still at a value, in its quantity's unit, so that a rule can
// be tried. It fails with [ErrNoPoint], and for a value that the registers or
// messages of the device cannot carry.
func (m *Model) Hold(point string, value float64) error {
	p := slices.IndexFunc(m.points, func(pt profile.Point) bool { return pt.ID == point })
	if p < 0 {
		return fmt.Errorf("device %s, point %s: %w", m.dev.ID, point, ErrNoPoint)
	}
	pt := &m.points[p]
	if pt.IsText() || pt.Bit != nil || len(pt.Enum) > 0 || len(pt.Refs()) > 0 {
		return fmt.Errorf("point %s is no plain number and cannot be held", point)
	}
	raw := m.rawFor(p, value)
	switch pt.Protocol() {
	case profile.ProtocolModbus:
		if !m.write(pt, raw, true) {
			return fmt.Errorf("%v does not fit into the registers of %s", value, point)
		}
		m.moves = slices.DeleteFunc(m.moves, func(v move) bool { return v.point == p })
		return nil
	case profile.ProtocolMQTT:
		path, err := profile.ParsePath(pt.Path)
		x := m.payloadOf(p)
		if err != nil || x == nil || pt.CountsEvents() {
			return fmt.Errorf("point %s is in no message that could hold it", point)
		}
		x.put(&path, json.Number(shown(raw)))
		x.moves = slices.DeleteFunc(x.moves, func(v moving) bool { return v.point == p })
		return nil
	}
	return errors.New("only devices of Modbus and MQTT can hold a value")
}
