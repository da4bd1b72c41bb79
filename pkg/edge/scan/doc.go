// Package scan finds out which devices are on a line or publish to a broker, and
// which profiles they are of, by what they say of themselves.
//
//	probe, err := cfg.OpenProbe(ctx)
//	found, err := scan.Modbus(ctx, probe, known, scan.ModbusOptions{Units: scan.AllUnits()})
//
// A profile fits when its conditions (match) hold, and most of its points can be
// read and make sense. Where several fit, the one with the strongest evidence is
// the finding, and the others are named with it. Nothing is written to a device,
// and a point whose reading has a side effect is not read.
package scan
