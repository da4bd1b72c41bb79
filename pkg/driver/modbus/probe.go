package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Probe asks single questions on a line that no driver is running on: to find
// out who is there, and what a device says of itself. It belongs to one
// goroutine.
type Probe struct {
	cfg  *Config
	line line
	stop func() bool
	last time.Time
}

// ErrStopped is returned by a Probe whose context has ended.
var ErrStopped = errors.New("stopped")

// OpenProbe opens the line. The error is one sentence for a technician. ctx ends
// every question that is under way; Close is to be called in any case.
func (c *Config) OpenProbe(ctx context.Context) (*Probe, error) {
	for _, p := range c.Validate() {
		return nil, p
	}
	cfg := *c
	cfg.ApplyDefaults()
	p := &Probe{cfg: &cfg, line: newWireLine(&cfg)}
	p.stop = context.AfterFunc(ctx, p.line.interrupt)
	if err := p.open(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Probe) open(ctx context.Context) error {
	err := p.line.open(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ErrStopped
	}
	if errors.Is(err, ErrPortInUse) {
		return fmt.Errorf("cannot reach %s: %w", p.line.name(), ErrPortInUse)
	}
	return errors.New(unreachable(err, p.line, p.cfg.ConnectTimeout).text)
}

// Close lets go of the line.
func (p *Probe) Close() {
	p.stop()
	p.line.close()
}

// Patience sets how long a device may think about the questions that follow.
func (p *Probe) Patience(d time.Duration) { p.cfg.Timeout = d }

// Line returns the address or port, with the serial settings where there are any.
func (p *Probe) Line() string {
	if p.cfg.Transport == TransportTCP {
		return p.line.name()
	}
	return p.line.name() + " at " + p.cfg.Line()
}

// Read asks a unit once for what stands at a point, and returns it as it is on
// the wire. A unit that refuses, keeps silent or answers nonsense is no error but
// the quality of what is returned: exception, no_answer, unreachable (a gateway
// that knows no such unit) or bad_frame. The error says that there is no line
// any more, or is [ErrStopped].
func (p *Probe) Read(ctx context.Context, unit int, pt *profile.Point, order profile.Order) (profile.Raw, error) {
	area, address := pt.Area()
	if !readable(pt) {
		return profile.Raw{}, fmt.Errorf("%s is no register", pt.ID)
	}
	for again := range 2 {
		if !p.line.isOpen() {
			if err := p.open(ctx); err != nil {
				return profile.Raw{}, err
			}
		}
		if err := p.pause(ctx); err != nil {
			return profile.Raw{}, err
		}
		q := question{unit: byte(unit), area: area, address: address, count: pt.Width()}
		data, err := p.line.ask(q)
		p.last = time.Now()
		if err == nil {
			r := Request{Area: area, Address: address, Count: q.count}
			return rawOf(pt, order, 0, words(nil, &r, data)), nil
		}
		f := judge(err, q, p.line, p.cfg.Timeout)
		switch {
		case f.stopped:
			return profile.Raw{}, ErrStopped
		case f.lost && again == 0 && !pt.SideEffect:
			continue
		case f.lost:
			return profile.Raw{}, errors.New(f.text)
		}
		return profile.Raw{Quality: telemetry.BadQuality(f.reason)}, nil
	}
	return profile.Raw{}, ErrStopped
}

// pause keeps the silence between two frames.
func (p *Probe) pause(ctx context.Context) error {
	d := time.Until(p.last.Add(max(p.line.quiet(), p.cfg.Pause)))
	if d <= 0 {
		if ctx.Err() != nil {
			return ErrStopped
		}
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ErrStopped
	}
}
