package edge

import (
	"slices"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// assumed follows a revision that the device did not tell, for people at the hub.
const assumed = " (assumed)"

// Identified implements [driver.Sink]: the hub is to see which revision a device
// is read by. Devices are described in the schema, so there is another one from
// the next frame on; its series are the same.
func (c *collector) Identified(d *driver.Device, id driver.Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, ok := c.first[d]
	if !ok || id.Revision == "" {
		return
	}
	name := id.Revision
	if !id.Fits {
		name += assumed
	}
	i := c.series[first].Device
	if c.schema.Devices[i].Revision == name {
		return
	}
	c.revise()
	c.schema.Devices[i].Revision = name
}

// revise makes the schema one that may be changed: the next frame names another. The
// lock is held.
func (c *collector) revise() {
	if !c.revised {
		c.schema = &telemetry.Schema{Devices: slices.Clone(c.schema.Devices), Series: c.series}
		c.revised = true
	}
}

// revision returns the schema when a device told its revision since the last
// call, and nil otherwise. It is not changed afterwards.
func (c *collector) revision() *telemetry.Schema {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.revised {
		return nil
	}
	c.revised = false
	return c.schema
}
