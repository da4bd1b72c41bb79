package feed

import (
	"fmt"
	"strconv"
	"strings"
)

// Position names the entry that a consumer has seen last. The zero value is
// before every entry.
type Position struct {
	Generation string
	Sequence   uint64
}

// String writes GENERATION-SEQUENCE; "0" for the zero value.
func (p Position) String() string {
	if p == (Position{}) {
		return "0"
	}
	return p.Generation + "-" + strconv.FormatUint(p.Sequence, 10)
}

// ParsePosition reads what String writes.
func ParsePosition(s string) (Position, error) {
	if s == "0" {
		return Position{}, nil
	}
	i := strings.LastIndexByte(s, '-')
	if i > 0 {
		if seq, err := strconv.ParseUint(s[i+1:], 10, 64); err == nil {
			return Position{s[:i], seq}, nil
		}
	}
	return Position{}, fmt.Errorf("%.80q is not GENERATION-SEQUENCE", s)
}

// MarshalText implements [encoding.TextMarshaler].
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Position) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePosition(string(b))
	return err
}
