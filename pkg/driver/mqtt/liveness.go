package mqtt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// device is a device and what is known of its being there. The worker owns it.
type device struct {
	spec    *driver.Device
	targets []*target
	time    *deviceTime
	partial bool
	life    liveness
	counts  *driver.Counts
	ident   *ident // nil when there is nothing to find out

	status   status    // as it was last given to the sink
	reported time.Time // when that was
}

// status is what [driver.Sink.Status] is told. The zero status is: not known yet.
type status struct {
	known  bool
	up     bool
	reason telemetry.Reason
	detail string
}

// liveness decides whether a device is up, from what was seen of it. It is pure:
// every event brings its time.
type liveness struct {
	expect time.Duration // longest silence; 0 when none is expected
	topics string        // what is listened to, for the technician

	linked    bool
	since     time.Time // the subscriptions stand since
	why       string    // the link is down because
	everDown  bool      // the link was down before
	heard     time.Time // newest fresh message
	said      time.Time // newest word of availability
	available bool      // what it said
	word      string
	refused   string // a topic that the broker does not let us have
}

func newLiveness(d *driver.Device) liveness {
	var topics []string
	for i := range d.Points {
		if t := d.Points[i].Topic; !slices.Contains(topics, t) {
			topics = append(topics, t)
		}
	}
	more := ""
	if len(topics) > 3 {
		topics, more = topics[:3], ", ..."
	}
	return liveness{expect: d.MQTT.ExpectEvery, topics: strings.Join(topics, ", ") + more}
}

func (l *liveness) linkUp(now time.Time, refused string) {
	l.linked, l.since, l.refused = true, now, refused
}

func (l *liveness) linkDown(why string) { l.linked, l.why, l.everDown = false, why, true }

// message notes a fresh message with data.
func (l *liveness) message(now time.Time) { l.heard = now }

// availability notes what the availability topic says.
func (l *liveness) availability(now time.Time, online bool, word string) {
	l.said, l.available, l.word = now, online, word
}

// judge returns the status at the time. The newest evidence wins: data that
// comes after an "offline" proves the device is there, since a last will may
// reach us after the device has come back.
func (l *liveness) judge(now time.Time) status {
	down := func(r telemetry.Reason, format string, args ...any) status {
		return status{known: true, reason: r, detail: fmt.Sprintf(format, args...)}
	}
	if !l.linked {
		if l.why == "" {
			return status{}
		}
		return down(telemetry.ReasonUnreachable, "%s", l.why)
	}
	if l.refused != "" && l.heard.IsZero() {
		return down(telemetry.ReasonUnreachable, "the broker refuses the subscription to %s: check the user's rights", l.refused)
	}
	if !l.said.IsZero() && !l.available && !l.heard.After(l.said) {
		return down(telemetry.ReasonOffline, "its availability topic says %q", excerpt(l.word))
	}
	if l.expect > 0 {
		from := l.heard
		if l.since.After(from) {
			from = l.since
		}
		if quiet := now.Sub(from); quiet > l.expect {
			if l.heard.IsZero() {
				return down(telemetry.ReasonSilent, "nothing arrived on %s since the connection was made, expected every %v", l.topics, l.expect)
			}
			return down(telemetry.ReasonSilent, "nothing arrived on %s for %v, expected every %v", l.topics, quiet.Round(time.Second), l.expect)
		}
	}
	if !l.heard.IsZero() && (l.expect == 0 || now.Sub(l.heard) <= l.expect) || !l.said.IsZero() && l.available {
		return status{known: true, up: true}
	}
	if l.everDown {
		return down(telemetry.ReasonSilent, "the broker is back; nothing arrived on %s yet", l.topics)
	}
	return status{}
}

// availability is a topic that says whether a device is there.
type availability struct {
	path            *profile.Path
	online, offline []string
}

func newAvailability(a *profile.Availability) (*availability, error) {
	av := &availability{online: a.Online, offline: a.Offline}
	if len(av.online)+len(av.offline) == 0 {
		av.online = []string{"online", "true", "1"}
	}
	if a.Path != "" {
		p, err := profile.ParsePath(a.Path)
		if err != nil {
			return nil, fmt.Errorf("path: %w", err)
		}
		av.path = &p
	}
	return av, nil
}

// read returns what the payload says. ok is false for a payload that says
// nothing: an empty one, which clears a retained message, or a word that is in
// neither list. With one list only, every other word means the opposite.
func (a *availability) read(doc *document) (online bool, word string, ok bool) {
	if len(doc.raw) == 0 || len(doc.raw) > maxPayload {
		return false, "", false
	}
	word = doc.word()
	if a.path != nil {
		// Older gateways send the bare word where newer ones send an object.
		if root, err := doc.json(); err == nil {
			v, found := a.path.Lookup(root)
			if found {
				word, _ = textOf(v)
			} else if _, bare := root.(string); !bare {
				return false, "", false
			}
		}
	}
	if word == "" {
		return false, "", false
	}
	is := func(list []string) bool {
		return slices.ContainsFunc(list, func(w string) bool { return strings.EqualFold(w, word) })
	}
	switch {
	case is(a.online):
		return true, word, true
	case is(a.offline):
		return false, word, true
	case len(a.offline) == 0:
		return false, word, true
	case len(a.online) == 0:
		return true, word, true
	}
	return false, word, false
}
