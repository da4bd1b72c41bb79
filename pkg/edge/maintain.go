package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// maintenanceKey is where maintenance stands in the log's small values.
const maintenanceKey = "maintenance"

// maxMaintenance is the longest that a device may be in maintenance at once: it
// always ends by itself, so that nobody can forget it.
const maxMaintenance = 24 * time.Hour

// maintenance knows which devices a technician works on, and until when. Their
// readings are uncertain with the reason maintenance. It survives a restart. Safe
// for concurrent use.
type maintenance struct {
	store  smallValues
	logger *slog.Logger

	mu    sync.Mutex
	until map[string]int64 // log time in milliseconds, by device id
}

func newMaintenance(store smallValues, logger *slog.Logger) *maintenance {
	m := &maintenance{store: store, logger: logger, until: map[string]int64{}}
	if data, ok := store.Meta(maintenanceKey); ok {
		if err := json.Unmarshal(data, &m.until); err != nil {
			logger.Error("which devices were in maintenance cannot be read; none is now", "err", err)
			m.until = map[string]int64{}
		}
	}
	return m
}

// set begins or prolongs the maintenance of a device until a log time; a time
// that has passed ends it. An error says that a restart would forget it.
func (m *maintenance) set(device string, until, now int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, t := range m.until {
		if t <= now {
			delete(m.until, id)
		}
	}
	delete(m.until, device)
	if until > now {
		m.until[device] = until
		m.logger.Info("device in maintenance", "device", device, "until", time.UnixMilli(until).UTC())
	} else {
		m.logger.Info("device out of maintenance", "device", device)
	}
	data, err := json.Marshal(m.until)
	if err != nil {
		return err
	}
	return m.store.SetMeta(maintenanceKey, data)
}

// of returns until when a device is in maintenance; 0: it is not. A clock that
// jumps back cannot make it longer than it may be.
func (m *maintenance) of(device string, now int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.until[device]; t > now && t <= now+maxMaintenance.Milliseconds() {
		return t
	}
	return 0
}

// shift follows times that got another name: that of this boot became true time.
func (m *maintenance) shift(offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.until {
		m.until[id] += offset
	}
}

// marked is the quality of a reading that was made during maintenance.
func marked(q telemetry.Quality) telemetry.Quality {
	if q.IsBad() {
		return q
	}
	return telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonMaintenance)
}

func maintainCommand() settings.Command[*Plan] {
	var length time.Duration
	var end bool
	return settings.Command[*Plan]{
		Use: "maintain DEVICE", Short: "mark the readings of a device while you work on it, so that they raise no alerts; it ends by itself",
		Args: cobra.ExactArgs(1),
		Flags: func(f *pflag.FlagSet) {
			f.DurationVar(&length, "for", 30*time.Minute, "how long, at most 24h")
			f.BoolVar(&end, "end", false, "end it now")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			id := c.Args[0]
			if err := plan.knownDevice(id); err != nil {
				return err
			}
			if end {
				length = 0
			} else if length <= 0 || length > maxMaintenance {
				return settings.Usagef("--for %v is not between 1s and %v", length, maxMaintenance)
			}
			var until time.Time
			err := order(ctx, plan.Config.DataDir, "/maintain", url.Values{"device": {id}, "for": {length.String()}}, &until)
			switch {
			case errors.Is(err, errNotRunning):
				return fmt.Errorf("%w; there is nothing to mark", err)
			case err != nil:
				return err
			case end:
				_, err = fmt.Fprintf(c.Stdout, "%s is out of maintenance\n", id)
			default:
				_, err = fmt.Fprintf(c.Stdout, "%s is in maintenance until %s; its readings are marked and raise no alerts\nend it earlier with: langbiang-edge maintain %s --end\n", id, until.Local().Format(time.DateTime), id)
			}
			return err
		},
	}
}

// Maintain puts a device into maintenance for so long from now; 0 ends it. It
// returns the time at which it ends by itself.
func (a *Agent) Maintain(device string, length time.Duration) (time.Time, error) {
	if length < 0 || length > maxMaintenance {
		return time.Time{}, fmt.Errorf("%v is not between 0 and %v", length, maxMaintenance)
	}
	if err := a.now.Load().knownDevice(device); err != nil {
		return time.Time{}, err
	}
	now := a.clock.Now().Ms
	until := now + length.Milliseconds()
	if err := a.maintenance.set(device, until, now); err != nil {
		a.logger.Warn("a restart would end this maintenance", "device", device, "err", err)
	}
	return time.UnixMilli(until), nil
}
