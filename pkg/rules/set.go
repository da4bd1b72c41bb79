package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Kind says how a rule compares.
type Kind string

// The kinds of rule.
const (
	Above Kind = "above" // fires while the value is above its limit
	Below Kind = "below" // fires while the value is below its limit
)

// sign maps the kind to above: x = sign * value.
func (k Kind) sign() float64 {
	if k == Below {
		return -1
	}
	return 1
}

// level is one step of a ladder. Times are in milliseconds.
type level struct {
	severity       alert.Severity
	limit, clear   float64
	hold, clearFor int64
}

// maxLevels is the number of severities.
const maxLevels = 4

// rule is a compiled rule; read-only.
type rule struct {
	id, version    string
	pos            strictyaml.Pos
	title, label   telemetry.Text
	quantity, unit string
	decimals       int
	where          where
	kind           Kind
	levels         []level // lowest severity first
	apart          bool    // activations that chatter are not collapsed
	labels, links  map[string]string
	source         string
	vi, en         *message
}

// hash returns the rule's version: a hash of how it judges one series.
func (r *rule) hash() string {
	type judged struct {
		Format   int
		Kind     Kind
		Quantity string
		Levels   [][5]float64
		Apart    bool `json:",omitempty"`
	}
	j := judged{Format: 1, Kind: r.kind, Quantity: r.quantity, Apart: r.apart}
	for _, l := range r.levels {
		j.Levels = append(j.Levels, [5]float64{float64(l.severity), l.limit, l.clear, float64(l.hold), float64(l.clearFor)})
	}
	return hashJSON(j)[:12]
}

func hashJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("rules: " + err.Error()) // only finite numbers and strings come here
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Set is a compiled rule set. It is read-only and safe for concurrent use.
type Set struct {
	id         string
	rules      []*rule // sorted by id
	byQuantity map[string][]uint16
	byID       map[string]uint16
	sites      map[string]Site
}

func newSet(rules []*rule, env Env) *Set {
	slices.SortFunc(rules, func(a, b *rule) int { return strings.Compare(a.id, b.id) })
	s := &Set{rules: rules, byQuantity: map[string][]uint16{}, byID: map[string]uint16{}, sites: env.Sites}
	var meaning []any
	for i, r := range rules {
		s.byID[r.id] = uint16(i)
		s.byQuantity[r.quantity] = append(s.byQuantity[r.quantity], uint16(i))
		meaning = append(meaning, []any{r.id, r.version, r.where.String(), r.labels, r.links, r.title, r.source, r.vi.text, r.en.text})
	}
	s.id = hashJSON(meaning)
	return s
}

// ID is a hash of what the set's files say, whatever their comments, names and
// layout.
func (s *Set) ID() string { return s.id }

// Len returns the number of rules.
func (s *Set) Len() int { return len(s.rules) }

// RuleInfo describes a rule to people, with what it has done lately. Matched,
// Active, Fired and LastFired are zero in what [Set.Rules] returns.
type RuleInfo struct {
	ID       string
	Version  string
	Title    telemetry.Text
	Kind     Kind
	Quantity string
	Unit     string
	Where    string // "" when all series of the quantity are watched
	Levels   []LevelInfo
	Labels   map[string]string
	Links    map[string]string
	Source   string // where the limits come from
	Position string // file:line:col

	Matched   int       // series that it watches now
	Active    int       // alerts of it that are active
	Fired     uint64    // alerts raised since this process started
	LastFired time.Time // event time of the newest of these; zero when there was none
}

// LevelInfo is one step of a ladder, lowest severity first.
type LevelInfo struct {
	Severity      alert.Severity
	Limit, Clear  float64
	For, ClearFor time.Duration
}

// Rules describes the rules, sorted by id.
func (s *Set) Rules() []RuleInfo {
	out := make([]RuleInfo, len(s.rules))
	for i, r := range s.rules {
		out[i] = r.info()
	}
	return out
}

func (r *rule) info() RuleInfo {
	info := RuleInfo{
		ID: r.id, Version: r.version, Title: r.title, Kind: r.kind, Quantity: r.quantity, Unit: r.unit, Where: r.where.String(),
		Labels: r.labels, Links: r.links, Source: r.source, Position: r.pos.String(),
	}
	for _, l := range r.levels {
		info.Levels = append(info.Levels, LevelInfo{
			l.severity, l.limit, l.clear, time.Duration(l.hold) * time.Millisecond, time.Duration(l.clearFor) * time.Millisecond,
		})
	}
	return info
}

// Matches returns the ids of the rules that watch the series, sorted.
func (s *Set) Matches(series telemetry.BoundSeries) []string {
	var ids []string
	for _, i := range s.matching(&series) {
		ids = append(ids, s.rules[i].id)
	}
	return ids
}

func (s *Set) matching(series *telemetry.BoundSeries) (out []uint16) {
	for _, i := range s.byQuantity[series.Quantity] {
		if s.rules[i].where.match(series) {
			out = append(out, i)
		}
	}
	return out
}

// find returns the rule with this id and version.
func (s *Set) find(id, version string) (uint16, bool) {
	i, ok := s.byID[id]
	return i, ok && s.rules[i].version == version
}
