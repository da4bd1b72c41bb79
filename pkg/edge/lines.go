package edge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/profile"
)

// lines fills in the serial settings that edge.yaml does not say, from the
// factory settings in the profiles of the devices on each line. Where those
// disagree it warns: somebody must have changed one of the devices.
func (c *checker) lines(plan *Plan) {
	for i := range plan.Connections {
		cn := &plan.Connections[i]
		m, ok := cn.Source.(*modbus.Config)
		if !ok || m.Transport == modbus.TransportTCP || len(c.errs) > 0 {
			continue
		}
		at := slices.IndexFunc(c.cfg.Connections, func(cc ConnectionConfig) bool { return cc.ID == cn.ID })
		said := func(field string) bool { return c.fleetDoc().Has("connections", at, "modbus", field) }
		adopt(c, cn, at, "baud", said, &m.Baud, func(d *profile.ModbusDefaults) int { return d.Baud })
		adopt(c, cn, at, "parity", said, &m.Parity, func(d *profile.ModbusDefaults) string { return d.Parity })
		adopt(c, cn, at, "stop_bits", said, &m.StopBits, func(d *profile.ModbusDefaults) int { return d.StopBits })
	}
}

// adopt takes one setting from the devices of a line when nobody has said it and
// they agree.
func adopt[T comparable](c *checker, cn *Connection, at int, field string, said func(string) bool, v *T, of func(*profile.ModbusDefaults) T) {
	var zero, first T
	if said(field) {
		return
	}
	var who []string
	agree := true
	for _, d := range cn.Devices {
		x := of(&d.Modbus)
		if x == zero {
			continue
		}
		if len(who) == 0 {
			first = x
		}
		agree = agree && x == first
		who = append(who, fmt.Sprintf("%s: %v", d.ID, x))
	}
	switch {
	case len(who) == 0:
	case agree:
		*v = first
	default:
		c.warnings = append(c.warnings, c.fleetDoc().Fault([]any{"connections", at, "modbus"},
			fmt.Sprintf("%s is not said and the devices leave the factory with different ones (%s); %v is taken", field, strings.Join(who, ", "), *v),
			"set the devices to one "+field+", and write it here"))
	}
}
