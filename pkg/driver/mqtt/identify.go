package mqtt

import (
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// ident is what a device has said of itself so far. The worker owns it.
type ident struct {
	places []*profile.Place
	paths  []*profile.Path // nil: the payload itself
	raws   []profile.Raw
	seen   []bool

	told     driver.Identity
	known    bool
	revision int
	doubts   []bool
}

func newIdent(d *driver.Device) (*ident, error) {
	id := &ident{places: d.Identify.Places()}
	for _, pl := range id.places {
		var path *profile.Path
		if pl.Path != "" {
			p, err := profile.ParsePath(pl.Path)
			if err != nil {
				return nil, err
			}
			path = &p
		}
		id.paths = append(id.paths, path)
		id.raws = append(id.raws, profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonMissing)})
	}
	id.seen = make([]bool, len(id.places))
	return id, nil
}

// inquire takes from a message what it says of its device, and takes another
// revision when that calls for it. A retained message counts: firmware is no
// reading that could be old.
func (d *mqttDriver) inquire(t *target, doc *document, now time.Time, retained bool) {
	dev := t.device
	id := dev.ident
	if !retained {
		dev.life.message(now)
	}
	news := false
	for _, i := range t.places {
		r := doc.at(id.paths[i])
		if r.Quality.IsBad() && (id.seen[i] && !id.raws[i].Quality.IsBad() || dev.partial) {
			continue // it said it before; this payload does not
		}
		news = news || !id.seen[i] || r != id.raws[i]
		id.raws[i], id.seen[i] = r, true
	}
	if !news {
		return
	}
	revision, told := dev.spec.Judge(func(pl *profile.Place) profile.Raw {
		for i, known := range id.places {
			if known.Same(pl) {
				return id.raws[i]
			}
		}
		return profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonMissing)}
	})
	for _, seen := range id.seen {
		if !told.Fits && !seen {
			return // what decides may come on another topic
		}
	}
	if id.known && told == id.told {
		return
	}
	id.known, id.told, id.doubts = true, told, dev.spec.Doubts(told)
	told.Log(d.logger, dev.spec)
	if len(dev.spec.Revisions) > 0 {
		id.revision = revision
		for _, t := range dev.targets {
			t.take(revision)
		}
		d.lack(dev)
	}
	d.sink.Identified(dev.spec, told)
}

// lack puts a bad reading for every point that the device's revision does not
// have.
func (d *mqttDriver) lack(dev *device) {
	d.samples = d.samples[:0]
	for i := range dev.spec.Revisions[dev.ident.revision].Points {
		if dev.spec.Revisions[dev.ident.revision].Points[i].Protocol() == "" {
			d.samples = append(d.samples, driver.Sample{Point: i, Quality: telemetry.BadQuality(telemetry.ReasonNotFitted)})
		}
	}
	if len(d.samples) > 0 {
		d.sink.Put(dev.spec, time.Time{}, d.samples)
	}
}
