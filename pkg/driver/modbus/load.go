package modbus

import (
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
)

// thinks is how long a device is taken to need before it answers, in the
// estimate of a line's load. Manuals say 5 to 50 ms.
const thinks = 15 * time.Millisecond

// Load estimates which part of its time a line spends on reading the device, from
// what the baud rate, the silences and a usual time to answer ask for: 1 is all of
// it. Nothing is lost on a line whose devices add up to less than about 0.9. It is
// not known (false) for TCP, whose time is the network's.
func (c *Config) Load(d *driver.Device) (float64, bool) {
	cfg := *c
	cfg.ApplyDefaults()
	if cfg.overTCP() {
		return 0, false
	}
	load := 0.0
	for _, r := range Plan(d) {
		took := cfg.onWire(question{area: r.Area, address: r.Address, count: r.Count}) + thinks + max(cfg.silence(), cfg.Pause)
		load += float64(took) / float64(r.Every)
	}
	return load, true
}
