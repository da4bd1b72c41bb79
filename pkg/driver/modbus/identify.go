package modbus

import (
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// inquiryTries is how many polls may begin by asking a device what it is when
// answers go missing, before it is taken as it is.
const inquiryTries = 3

// inquiry asks a device what it is: at the first contact, and again when it
// comes back after it was down. The questions are the first of a poll, one
// request per place. Before them stands a knock, the first request of the device
// as it is known so far, whose data are thrown away: many devices keep silent
// about registers that they do not have, so only what they must have tells a
// dead device from one that does not say.
type inquiry struct {
	dev    *driver.Device // its points are the places
	blocks []*block       // one for each place
	places []*profile.Place
	raws   []profile.Raw

	open     bool // the device is to be asked
	asking   bool // in this poll, now
	knocking bool
	next     int   // place
	slot     int64 // of the poll
	tries    int
}

func newInquiry(d *driver.Device) inquiry {
	q := inquiry{open: true, places: d.Identify.Places()}
	own := *d
	own.Points = nil
	for i, pl := range q.places {
		pt := pl.Point(pl.String())
		own.Points = append(own.Points, pt)
		area, address := pt.Area()
		q.blocks = append(q.blocks, &block{Request: Request{Area: area, Address: address, Count: pt.Width(), Points: []int{i}}, every: 1})
	}
	q.dev = &own
	q.raws = make([]profile.Raw, len(q.places))
	return q
}

// again has the device asked at its next poll.
func (q *inquiry) again() {
	if q.places != nil {
		q.open, q.tries = true, 0
	}
}

// begin makes the questions the queue of the poll.
func (q *inquiry) begin(u *unit, slot int64) {
	q.asking, q.slot, q.next = true, slot, 0
	u.queue = u.store[:0]
	q.knocking = false
	for _, b := range u.list {
		if !b.Once {
			q.knocking = true
			u.queue = append(u.queue, &block{Request: b.Request})
			break
		}
	}
	u.queue = append(u.queue, q.blocks...)
	u.store = u.queue
}

// read returns what an answer says.
func (q *inquiry) read(u *unit, b *block, words []uint16) profile.Raw {
	if q.knocking {
		return profile.Raw{}
	}
	return rawOf(&q.dev.Points[b.Points[0]], u.device.Modbus.Order, 0, words)
}

// leave turns from the questions to the data, as far as they are due.
func (q *inquiry) leave(u *unit) {
	if q.asking {
		q.asking = false
		u.fill(q.slot)
	}
}

// told takes the answer to the question at the head of the queue, or what stands
// for one, and goes on to the next; after the last it takes the revision.
func (b *bus) told(u *unit, r profile.Raw) {
	q := &u.ask
	if q.knocking {
		q.knocking = false
	} else {
		q.raws[q.next] = r
		q.next++
	}
	u.queue = u.queue[1:]
	if len(u.queue) > 0 {
		return
	}
	b.settle(u)
	q.leave(u)
	if len(u.queue) == 0 {
		b.finish(u)
	}
}

// settle decides what the device is, or leaves that to a later poll when answers
// went missing.
func (b *bus) settle(u *unit) {
	q := &u.ask
	missing := false
	revision, id := u.device.Judge(func(pl *profile.Place) profile.Raw {
		for i, known := range q.places {
			if known.Same(pl) {
				missing = missing || unheard(q.raws[i])
				return q.raws[i]
			}
		}
		return profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonMissing)}
	})
	q.tries++
	if !id.Fits && missing && q.tries < inquiryTries {
		return
	}
	q.open = false
	d := u.device
	points, convert := d.Points, d.Convert
	if len(d.Revisions) > 0 {
		points, convert = d.Revisions[revision].Points, d.Revisions[revision].Convert
	}
	u.doubts = d.Doubts(id)
	if u.told != id {
		u.told = id
		id.Log(b.logger, d)
		b.see(u, viewOf(d, points, convert))
	}
	b.env.Sink.Identified(d, id)
}

// unheard reports whether a question got no answer at all, of whatever kind.
func unheard(r profile.Raw) bool {
	switch r.Quality.Reason() {
	case telemetry.ReasonNoAnswer, telemetry.ReasonBadFrame, telemetry.ReasonUnreachable:
		return r.Quality.IsBad()
	}
	return false
}
