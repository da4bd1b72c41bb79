package edge

import (
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
)

// The kinds of link in hub.link.
const (
	linkUnmetered = "unmetered"
	linkMetered   = "metered"
)

// pace is how often things are done on the way to the hub, worked out from the
// configuration and from how often the devices are read.
type pace struct {
	cut       time.Duration // frames
	send      time.Duration // of frames together; 0: each as it is cut
	period    time.Duration // between messages, one way or the other
	ackWithin time.Duration // that the hub may keep an acknowledgement back
	keepAlive time.Duration
	snapshot  time.Duration // last values, during a backlog
	behind    int           // frames that make a backlog
}

// Bounds of what is worked out. A message costs 150 to 200 bytes of headers and as
// much again for its acknowledgement, so a gateway that is read every 5 s does not say
// something every second. What is urgent waits for none of this.
const (
	fastest    = time.Second
	slowest    = 5 * time.Second
	bundle     = time.Minute
	longestAck = 15 * time.Second
)

func paceOf(cfg *Config, devices []*driver.Device) pace {
	p := pace{period: cfg.Hub.SendEvery, keepAlive: time.Minute, snapshot: 10 * time.Second}
	metered := cfg.Hub.Link == linkMetered
	switch {
	case p.period > 0:
	case metered:
		p.period = bundle
	default:
		p.period = slowest
		for _, d := range devices {
			p.period = min(p.period, max(fastest, d.Interval))
		}
	}
	p.cut = min(p.period, cfg.Buffer.CommitEvery)
	if p.cut < p.period {
		p.send = p.period
	}
	p.ackWithin = min(3*p.period, longestAck)
	if metered {
		p.keepAlive, p.snapshot, p.ackWithin = 5*time.Minute, bundle, slowest
	}
	p.behind = max(30, int(3*p.period/p.cut))
	return p
}
