package alert

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// HoldKind says why alerts are kept from calling people.
type HoldKind string

// The kinds of hold.
const (
	HoldShelved      HoldKind = "shelved"        // a person shelved an alert: its rule on its series
	HoldMaintenance  HoldKind = "maintenance"    // known work: suppressed by design
	HoldEdgeOffline  HoldKind = "edge_offline"   // what depends on an edge that is cut off: suppressed by design; the hub's own
	HoldOutOfService HoldKind = "out_of_service" // the series, device or rule is not to be relied on
)

// Hold keeps the alerts of its scope from calling people, those that stand and
// those that come, until its end. It moves no start and no end of an alert, and
// is judged by the hub's clock: an alert that becomes known while it stands is
// held. An empty field of the scope is any. It may begin in the future, and always
// has an end.
type Hold struct {
	ID     string    `json:"id"`
	Kind   HoldKind  `json:"kind"`
	Site   string    `json:"site,omitempty"`
	Edge   string    `json:"edge,omitempty"`
	Device string    `json:"device,omitempty"`
	Point  string    `json:"point,omitempty"`
	Rule   string    `json:"rule,omitempty"`
	Exact  bool      `json:"exact,omitempty"` // an empty field is empty: one series, or one group
	UpTo   Severity  `json:"up_to,omitempty"` // alerts that are worse are not held; none: all are
	From   time.Time `json:"from"`            // hub's clock
	Until  time.Time `json:"until"`

	Pending bool `json:"pending,omitempty"` // From is still to come: nothing is held yet

	Who   string   `json:"who"`
	Why   string   `json:"why,omitempty"`
	Ended *HoldEnd `json:"ended,omitempty"` // nil while it stands
}

// HoldEnd says how a hold ended.
type HoldEnd struct {
	At  time.Time `json:"at"`
	Who string    `json:"who,omitempty"` // empty: its time was over
	Why string    `json:"why,omitempty"`
}

// Check says in a [*Refusal] what is wrong with a hold that a person asks for.
func (h *Hold) Check(now time.Time) error {
	if err := checkWho("who", h.Who); err != nil && h.Kind != HoldEdgeOffline {
		return err
	}
	if !slices.Contains([]HoldKind{HoldMaintenance, HoldOutOfService, HoldEdgeOffline}, h.Kind) {
		return refuse(Invalid, "it is out_of_service or maintenance", "%q is no kind of hold", cmp.Or(string(h.Kind), "nothing"))
	}
	if err := checkText("why", h.Why, MaxText); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{{"site", h.Site}, {"edge", h.Edge}, {"device", h.Device}, {"point", h.Point}, {"rule", h.Rule}} {
		if err := checkText(f.name, f.value, MaxWho); err != nil {
			return err
		}
	}
	switch {
	case h.Site == "" && h.Edge == "" && h.Rule == "":
		return refuse(Invalid, "name a rule, a site, an edge, or a device with its edge", "the hold would hold every alert there is")
	case h.Device != "" && h.Edge == "":
		return refuse(Invalid, "devices are named within their edge: give the edge, too", "the edge of device %s is missing", h.Device)
	case h.Point != "" && h.Device == "":
		return refuse(Invalid, "points are named within their device: give the device, too", "the device of point %s is missing", h.Point)
	}
	if !h.From.After(now) {
		return checkUntil(&h.Until, now, MaxHold, "a hold")
	}
	switch {
	case h.From.Sub(now) > MaxHold:
		return refuse(Invalid, fmt.Sprintf("at most %d days ahead are possible", int(MaxHold.Hours())/24), "a hold from %s begins too late", h.From.Format(time.RFC3339))
	case !h.Until.IsZero() && !h.Until.After(h.From):
		return refuse(Invalid, "give an end that comes after it", "a hold cannot end (%s) before it begins (%s)", h.Until.Format(time.RFC3339), h.From.Format(time.RFC3339))
	}
	return checkUntil(&h.Until, h.From, MaxHold, "a hold")
}

// Covers reports whether the alert is in the hold's scope.
func (h *Hold) Covers(a *Alert) bool {
	if h.UpTo != None && a.Severity > h.UpTo || h.Kind == HoldEdgeOffline && a.Quantity == QuantitySilence {
		return false // that an edge is offline is told, however long it is
	}
	match := func(want, got string) bool { return want == got || want == "" && !h.Exact }
	return match(h.Rule, a.Rule) && match(h.Edge, a.Edge) && match(h.Device, a.Device) && match(h.Point, a.Point) &&
		(match(h.Site, a.Site) || h.Exact && h.Edge != "") // an edge that moves keeps its series
}

// ShelfFor is the hold that shelves the alert's rule on its series.
func ShelfFor(a *Alert, act *Act, now time.Time) Hold {
	return Hold{
		ID: "shelf-" + NewID(a.Rule, a.Site, SeriesKey(a.Edge, a.Device, a.Point), 0), Kind: HoldShelved,
		Site: a.Site, Edge: a.Edge, Device: a.Device, Point: a.Point, Rule: a.Rule, Exact: true,
		From: now, Until: act.Until.UTC(), Who: act.Who, Why: act.Why,
	}
}

// HeldBy sets what the holds make of the alert. Of several shelvings the longest
// counts. The alert's own Suppressed stands where no hold suppresses it.
func (a *Alert) HeldBy(holds []Hold) {
	a.ShelvedUntil, a.OutOfService = nil, false
	if k := HoldKind(a.Suppressed); k == HoldMaintenance || k == HoldEdgeOffline {
		a.Suppressed = ""
	}
	for i := range holds {
		h := &holds[i]
		if h.Pending || !h.Covers(a) {
			continue
		}
		switch h.Kind {
		case HoldShelved:
			if a.State == Active && (a.ShelvedUntil == nil || h.Until.After(*a.ShelvedUntil)) {
				until := h.Until
				a.ShelvedUntil = &until
			}
		case HoldOutOfService:
			a.OutOfService = true
		default:
			a.Suppressed = string(h.Kind)
		}
	}
}
