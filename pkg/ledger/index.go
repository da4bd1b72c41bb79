package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math"

	"github.com/langbiang/langbiang/pkg/alert"
)

// An index key is the start of an alert and its id, so that the order of the
// bucket is that of time and ids are unique within it:
//
//	start i64, sign bit flipped, big endian | id
//
// An index value holds what a list filters by, so that no alert has to be
// decoded to be left out:
//
//	1: active u8 | severity u8 | end i64 | len u8 site | len u8 rule
//
// End is MaxInt64 while the alert is active. The first byte is the version of
// the value.
type indexValue struct {
	active     bool
	severity   alert.Severity
	end        int64
	site, rule string
}

const indexVersion = 1

func timeKey(ms int64) [8]byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(ms)^(1<<63))
	return b
}

func keyTime(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)) }

func indexKey(start int64, id string) []byte {
	t := timeKey(start)
	return append(t[:], id...)
}

func indexOf(a *alert.Alert) indexValue {
	v := indexValue{active: a.State == alert.Active, severity: a.Severity, end: math.MaxInt64, site: a.Site, rule: a.Rule}
	if a.End != nil {
		v.end = a.End.UnixMilli()
	}
	return v
}

func (v indexValue) encode() []byte {
	b := []byte{indexVersion, 0, byte(v.severity)}
	if v.active {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, uint64(v.end))
	for _, s := range []string{v.site, v.rule} {
		s = s[:min(len(s), 255)]
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b
}

func decodeIndex(b []byte) (v indexValue, ok bool) {
	if len(b) < 13 || b[0] != indexVersion {
		return v, false
	}
	v.active, v.severity, v.end = b[1] == 1, alert.Severity(b[2]), int64(binary.BigEndian.Uint64(b[3:]))
	b = b[11:]
	for _, s := range []*string{&v.site, &v.rule} {
		if len(b) < 1 || len(b) < 1+int(b[0]) {
			return v, false
		}
		*s = string(b[1 : 1+int(b[0])])
		b = b[1+int(b[0]):]
	}
	return v, true
}

func cursorString(key []byte) string { return hex.EncodeToString(key) }

func parseCursor(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) < 9 {
		return nil, ErrCursor
	}
	return b, nil
}

// Counts are the numbers of active alerts.
type Counts struct {
	Active     int                               `json:"active"`
	BySeverity map[alert.Severity]int            `json:"by_severity"`
	BySite     map[string]map[alert.Severity]int `json:"by_site"`
	ByRule     map[string]int                    `json:"by_rule"`
}

// counters keep Counts up to date in constant time per transition.
type counters struct {
	active     int
	bySeverity map[alert.Severity]int
	bySite     map[string]map[alert.Severity]int
	byRule     map[string]int
}

func newCounters() counters {
	return counters{0, map[alert.Severity]int{}, map[string]map[alert.Severity]int{}, map[string]int{}}
}

func (c *counters) add(v indexValue, by int) {
	c.active += by
	bump(c.bySeverity, v.severity, by)
	bump(c.byRule, v.rule, by)
	site := c.bySite[v.site]
	if site == nil {
		site = map[alert.Severity]int{}
		c.bySite[v.site] = site
	}
	bump(site, v.severity, by)
	if len(site) == 0 {
		delete(c.bySite, v.site)
	}
}

func bump[K comparable](m map[K]int, k K, by int) {
	if m[k] += by; m[k] == 0 {
		delete(m, k)
	}
}

// Counts returns how many alerts are active, by severity, site and rule.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Counts{
		Active: l.counts.active, BySeverity: maps.Clone(l.counts.bySeverity), ByRule: maps.Clone(l.counts.byRule),
		BySite: make(map[string]map[alert.Severity]int, len(l.counts.bySite)),
	}
	for s, m := range l.counts.bySite {
		c.BySite[s] = maps.Clone(m)
	}
	return c
}
