package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	goburrow "github.com/goburrow/modbus"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

// order is a write that a person asked for, on its way to the owner of the bus.
type order struct {
	device, point, value string
	done                 chan outcome // has room for one
}

type outcome struct {
	written driver.Written
	err     error
}

// Write implements [driver.Writer].
func (b *bus) Write(ctx context.Context, device, point, value string) (driver.Written, error) {
	o := &order{device: device, point: point, value: value, done: make(chan outcome, 1)}
	select {
	case b.orders <- o:
	case <-ctx.Done():
		return driver.Written{}, fmt.Errorf("connection %s is busy, nothing was written: %w", b.id, context.Cause(ctx))
	case <-b.ended:
		return driver.Written{}, fmt.Errorf("connection %s was stopped, nothing was written", b.id)
	}
	select {
	case r := <-o.done:
		return r.written, r.err
	case <-ctx.Done():
		return driver.Written{}, fmt.Errorf("%s.%s: %w: %w", device, point, driver.ErrInDoubt, context.Cause(ctx))
	case <-b.ended:
		select {
		case r := <-o.done:
			return r.written, r.err
		default:
		}
		return driver.Written{}, fmt.Errorf("%s.%s: %w: connection %s was stopped", device, point, driver.ErrInDoubt, b.id)
	}
}

// carryOut is one turn on the bus: the write, and the reading back.
func (b *bus) carryOut(ctx context.Context, o *order) {
	written, err := b.write(ctx, o)
	if err != nil {
		err = fmt.Errorf("%s.%s: %w", o.device, o.point, err)
		b.logger.Warn("not written", "device", o.device, "point", o.point, "value", o.value, "err", err)
	} else {
		b.logger.Info("written on command", "device", o.device, "point", o.point, "value", o.value, "back", written.Back.Value, "same", written.Same)
	}
	o.done <- outcome{written, err}
}

func (b *bus) write(ctx context.Context, o *order) (w driver.Written, err error) {
	i := slices.IndexFunc(b.sched.units, func(u *unit) bool { return u.device.ID == o.device })
	if i < 0 {
		return w, fmt.Errorf("connection %s has no such device", b.id)
	}
	u := b.sched.units[i]
	dev := u.view.dev
	p := slices.IndexFunc(dev.Points[:u.view.own], func(pt profile.Point) bool { return pt.ID == o.point })
	if p < 0 || slices.Contains(u.view.absent, p) {
		return w, errors.New("the device has no such point")
	}
	if u.device.Unit == 0 && b.cfg.Transport != TransportTCP {
		return w, errors.New("unit 0 is everybody on a serial line")
	}
	pt := &dev.Points[p]
	raw, err := profile.ToWrite(pt, dev.Convert[p], o.value)
	if err != nil {
		return w, err
	}
	words, err := profile.Encode(pt, dev.Modbus.Order, raw)
	if err != nil {
		return w, err
	}
	if !b.line.isOpen() {
		b.connect(ctx)
	}
	if !b.line.isOpen() {
		return w, errors.New(b.closed.text)
	}
	area, address := pt.Area()
	q := question{unit: byte(u.device.Unit), area: area, address: address, count: len(words)}
	if !b.turn(ctx, u) {
		return w, errors.New("the agent stops")
	}
	b.metrics.writes.Inc()
	tellErr := b.line.tell(q, words, pt.Writable.Multiple)
	b.spent(u)
	var f failure
	if tellErr != nil {
		f = judge(tellErr, q, b.line, b.cfg.Timeout)
		if f.lost && !f.stopped {
			b.fell(f)
		}
		b.metrics.failed(f)
		if f.answered() && f.exception != goburrow.ExceptionCodeAcknowledge {
			return w, errors.New(f.text) // it refused
		}
	}
	// What it holds now is worth most where it did not answer.
	back, unread := b.readBack(ctx, u, q)
	read := back != nil
	if tellErr != nil {
		switch {
		case read && slices.Equal(back, words):
			w.Note = "the device did not answer, but holds what was written"
		case read:
			return w, fmt.Errorf("%s; it holds another value, read back right after", f.text)
		default:
			return w, fmt.Errorf("%w: %s", driver.ErrInDoubt, f.text)
		}
	}
	if !read {
		w.Note = "it was accepted and could not be read back: " + unread
		return w, nil
	}
	w.Back = b.sampleOf(dev, p, back)
	if w.Same = slices.Equal(back, words); !w.Same {
		w.Note = "the device took it and holds another value: it may be out of its range, or take effect later"
	}
	return w, nil
}

// turn waits for the silence that the line and the unit need.
func (b *bus) turn(ctx context.Context, u *unit) bool {
	b.wait(ctx, b.lastEnd.Add(max(b.line.quiet(), b.cfg.Pause)))
	b.wait(ctx, u.readyAt)
	return ctx.Err() == nil
}

// spent notes the end of a turn.
func (b *bus) spent(u *unit) {
	b.lastEnd = time.Now()
	u.readyAt = b.lastEnd.Add(u.device.Modbus.Pause)
	b.metrics.requests.Inc()
}

// readBack asks for the words that were written, a second time when the answer is
// lost or damaged; nil, and why, when there are none. Reading does no harm.
func (b *bus) readBack(ctx context.Context, u *unit, q question) (regs []uint16, why string) {
	again := false
	if regs, why, again = b.readOnce(ctx, u, q); again {
		regs, why, _ = b.readOnce(ctx, u, q)
	}
	return regs, why
}

func (b *bus) readOnce(ctx context.Context, u *unit, q question) (regs []uint16, why string, again bool) {
	if !b.line.isOpen() {
		b.connect(ctx)
	}
	if !b.line.isOpen() {
		return nil, b.closed.text, false
	}
	if !b.turn(ctx, u) {
		return nil, "the agent stops", false
	}
	data, err := b.line.ask(q)
	b.spent(u)
	if err != nil {
		f := judge(err, q, b.line, b.cfg.Timeout)
		if f.lost && !f.stopped {
			b.fell(f)
		}
		return nil, f.text, f.passing() && !f.stopped
	}
	r := Request{Area: q.area, Address: q.address, Count: q.count}
	return words(nil, &r, data), "", false
}

func (b *bus) sampleOf(dev *driver.Device, p int, regs []uint16) driver.Sample {
	pt := &dev.Points[p]
	s := driver.Sample{Point: p}
	raw, _, err := profile.Decode(pt, dev.Modbus.Order, regs)
	if err == nil {
		s.Value, s.Quality = profile.Number(pt, dev.Convert[p], raw)
	}
	return s
}
