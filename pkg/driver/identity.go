package driver

import (
	"log/slog"

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
	Version string // of its firmware, when it tells
	Seen    string // what was read, for a technician
}

// Judge decides by what stands at the places of d.Identify. The index is that of
// the revision in d.Revisions, 0 when there is none to choose from.
func (d *Device) Judge(at func(*profile.Place) profile.Raw) (revision int, id Identity) {
	v := d.Identify.Judge(at)
	id = Identity{Fits: v.Model, Version: v.Version, Seen: v.Seen}
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
		l.Warn("no revision of the profile fits the device: the first one is assumed and its readings are uncertain; write revision: in edge.yaml when it is right", args...)
	}
}

// Doubtful lowers a good quality to uncertain (configuration): what a reading
// deserves whose revision is assumed.
func Doubtful(q telemetry.Quality) telemetry.Quality {
	if q == 0 {
		return telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonConfiguration)
	}
	return q
}
