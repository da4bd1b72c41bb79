package driver

import (
	"log/slog"
	"reflect"
	"slices"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Identity is what a device said of itself, and what follows from that.
type Identity struct {
	// Revision is the one that the device is read by, empty when its profile has
	// none to choose from.
	Revision string
	// Fits reports that this is what the device is. Otherwise no revision fits
	// and the first one is assumed, or it is another model.
	Fits    bool
	Model   bool   // the profile's own conditions hold, whatever the revision
	Version string // of its firmware, when it tells
	Seen    string // what was read, for a technician
}

// Judge decides by what stands at the places of d.Identify. The index is that of
// the revision in d.Revisions, 0 when there is none to choose from.
func (d *Device) Judge(at func(*profile.Place) profile.Raw) (revision int, id Identity) {
	v := d.Identify.Judge(at)
	id = Identity{Fits: v.Model, Model: v.Model, Version: v.Version, Seen: v.Seen}
	if len(d.Revisions) > 0 {
		id.Fits = v.Revision >= 0
		revision = max(0, v.Revision)
		id.Revision = d.Revisions[revision].ID
	}
	return revision, id
}

// Log tells a technician what came of asking the device what it is.
func (id *Identity) Log(l *slog.Logger, d *Device) {
	args := []any{"device", d.ID, "profile", d.Profile, "read", id.Seen}
	if id.Version != "" {
		args = append(args, "firmware", id.Version)
	}
	if id.Revision != "" {
		args = append(args, "revision", id.Revision)
	}
	switch {
	case id.Fits && id.Revision == "":
		l.Info("the device is of its profile's model", args...)
	case id.Fits:
		l.Info("the device tells its revision", args...)
	case id.Revision == "":
		l.Warn("the device does not look like its profile's model; check the profile and the address", args...)
	default:
		l.Warn("no revision of the profile fits the device: the first one is assumed and what it reads otherwise than the others is uncertain; write revision: in edge.yaml when it is right", args...)
	}
}

// Doubts returns for each point whether its readings are to be doubted: the
// revision is assumed, and the point is not read alike in all of them, or the
// device is another model. It is nil when nothing is.
func (d *Device) Doubts(id Identity) []bool {
	if id.Fits || len(d.Revisions) == 0 {
		return nil
	}
	doubts := make([]bool, len(d.Points))
	for i := range doubts {
		doubts[i] = !id.Model || slices.ContainsFunc(d.Revisions, func(r Revision) bool {
			return !reflect.DeepEqual(r.Points[i], d.Revisions[0].Points[i])
		})
	}
	return doubts
}

// Doubt makes good samples uncertain (configuration) whose points are doubted.
// Doubts may be nil.
func Doubt(doubts []bool, samples []Sample) {
	if doubts == nil {
		return
	}
	for i := range samples {
		if s := &samples[i]; s.Quality == 0 && doubts[s.Point] {
			s.Quality = telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonConfiguration)
		}
	}
}
