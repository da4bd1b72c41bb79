package profile

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Version is a firmware version: numbers from the most significant on. 1.2 and
// 1.2.0 are equal.
type Version []int

// The ways in which a device tells its version.
const (
	VersionText       = "text"       // the first dotted number of a text: "v3.1.4-snap"
	VersionBytes      = "bytes"      // each byte is a part: 0x0204 is 2.4
	VersionDigits     = "digits"     // each decimal digit is a part: 451 is 4.5.1
	VersionTenths     = "tenths"     // 10 is 1.0
	VersionHundredths = "hundredths" // 104 is 1.4
)

var versionForms = []string{VersionText, VersionBytes, VersionDigits, VersionTenths, VersionHundredths}

// ParseVersion finds the first dotted number in a text; what stands around it
// does not matter. It is not ok when there is none.
func ParseVersion(s string) (v Version, ok bool) {
	start := strings.IndexAny(s, "0123456789")
	if start < 0 {
		return nil, false
	}
	s = s[start:]
	if end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); end >= 0 {
		s = s[:end]
	}
	for part := range strings.SplitSeq(strings.Trim(s, "."), ".") {
		n, err := strconv.Atoi(part)
		if err != nil || len(v) == 8 {
			return nil, false
		}
		v = append(v, n)
	}
	return v, true
}

// decodeVersion reads a version out of the number in a register.
func decodeVersion(form string, n float64) (Version, bool) {
	if n < 0 || n != math.Trunc(n) || n > 1<<53 {
		return nil, false
	}
	whole := uint64(n)
	switch form {
	case VersionBytes:
		var v Version
		for ; whole > 0 || len(v) < 2; whole >>= 8 {
			v = append(Version{int(whole & 0xff)}, v...)
		}
		return v, true
	case VersionDigits:
		var v Version
		for _, d := range strconv.FormatUint(whole, 10) {
			v = append(v, int(d-'0'))
		}
		return v, true
	case VersionTenths:
		return Version{int(whole / 10), int(whole % 10)}, true
	case VersionHundredths:
		return Version{int(whole / 100), int(whole % 100)}, true
	}
	return ParseVersion(strconv.FormatUint(whole, 10))
}

// Compare is negative when v is older than o, positive when it is newer.
func (v Version) Compare(o Version) int {
	for i := range max(len(v), len(o)) {
		var a, b int
		if i < len(v) {
			a = v[i]
		}
		if i < len(o) {
			b = o[i]
		}
		if c := cmp.Compare(a, b); c != 0 {
			return c
		}
	}
	return 0
}

// String returns the version with dots.
func (v Version) String() string {
	parts := make([]string, len(v))
	for i, n := range v {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, ".")
}

// VersionRange is a set of versions: all of its bounds hold. The empty one holds
// every version.
type VersionRange []versionBound

type versionBound struct {
	op string
	v  Version
}

// ParseVersionRange reads bounds with spaces between them: >=1.0.0 <1.0.4. The
// operators are = < <= > >=.
func ParseVersionRange(s string) (VersionRange, error) {
	var r VersionRange
	for _, word := range strings.Fields(s) {
		v, ok := ParseVersion(word)
		if !versionEnd.MatchString(word) || !ok {
			return nil, fmt.Errorf("bad version range %q", word)
		}
		r = append(r, versionBound{strings.TrimRight(word, "0123456789."), v})
	}
	return r, nil
}

// Contains reports whether the version is in the range.
func (r VersionRange) Contains(v Version) bool {
	for _, b := range r {
		c := v.Compare(b.v)
		var holds bool
		switch b.op {
		case "=":
			holds = c == 0
		case "<":
			holds = c < 0
		case "<=":
			holds = c <= 0
		case ">":
			holds = c > 0
		case ">=":
			holds = c >= 0
		}
		if !holds {
			return false
		}
	}
	return true
}
