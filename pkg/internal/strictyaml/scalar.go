package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written with a unit: 64MiB, 1GiB, 1GB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes Size
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// String writes the size with the largest unit that leaves a whole number.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if u.name != "KB" && s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return "0B"
}

// The hints that go with a bad duration or size.
const (
	hintDuration = "write 5s, 1m or 1h30m"
	hintSize     = "write 64MiB, 1GiB or 1GB"
)

// ParseSize reads a size as it stands in a file: a number that is not negative
// and a unit, B, kB, MB, GB, TB, KiB, MiB, GiB or TiB. The error is one clause
// without the name of the setting.
func ParseSize(text string) (Size, error) {
	n, err := parseSize(text)
	if err != nil {
		return 0, fmt.Errorf("bad size %q; %s", clip(text), hintSize)
	}
	return n, nil
}

var errNotation = errors.New("notation")

func parseSize(text string) (Size, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		x, err := strconv.ParseFloat(strings.TrimRight(digits, " "), 64)
		if err != nil || !(x >= 0 && x*float64(u.bytes) < math.MaxInt64) {
			return 0, errNotation
		}
		return Size(math.Round(x * float64(u.bytes))), nil
	}
	if text == "0" {
		return 0, nil
	}
	return 0, errNotation
}

// ParseDuration reads a duration in Go's notation, and d for 24 hours: 5s,
// 1h30m, 7d, 1d12h. The error is one clause without the name of the setting.
func ParseDuration(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("bad duration %q; %s", clip(text), hintDuration)
	}
	return d, nil
}

func parseDuration(text string) (time.Duration, error) {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	if strings.TrimLeft(days, "-.0123456789") != "" {
		return 0, errNotation
	}
	x, err := strconv.ParseFloat(days, 64)
	if err != nil || !(math.Abs(x) <= 100_000) {
		return 0, errNotation
	}
	d := time.Duration(x * float64(24*time.Hour))
	if rest == "" {
		return d, nil
	}
	if rest[0] == '-' || rest[0] == '+' {
		return 0, errNotation
	}
	r, err := time.ParseDuration(rest)
	if err != nil || r > math.MaxInt64/2 {
		return 0, errNotation
	}
	if x < 0 {
		r = -r
	}
	return d + r, nil
}

// scalarKind is what plain text resolves to.
type scalarKind uint8

const (
	scalarText scalarKind = iota
	scalarNull
	scalarBool
	scalarInt
	scalarFloat
)

// resolve tells what unquoted text means, by the core schema of YAML 1.2.
func resolve(s string) scalarKind {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return scalarNull
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return scalarBool
	case ".inf", ".Inf", ".INF", "+.inf", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN":
		return scalarFloat
	}
	t := strings.TrimLeft(s, "+-")
	if len(s)-len(t) > 1 || t == "" {
		return scalarText
	}
	if len(t) > 2 && t[0] == '0' && strings.ContainsRune("xob", rune(t[1])) {
		if _, err := strconv.ParseUint(t, 0, 64); err == nil || errors.Is(err, strconv.ErrRange) {
			return scalarInt
		}
		return scalarText
	}
	digits := strings.TrimLeft(t, "0123456789")
	if digits == "" {
		return scalarInt
	}
	if c := t[0]; c != '.' && (c < '0' || c > '9') || strings.ContainsAny(t, "xXpP_iInN") {
		return scalarText
	}
	if _, err := strconv.ParseFloat(t, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return scalarFloat
	}
	return scalarText
}

// leadingZero reports whether a number could be read as octal by one program
// and as decimal by the next.
func leadingZero(s string) bool {
	t := strings.TrimLeft(s, "+-")
	return len(t) > 1 && t[0] == '0' && t[1] >= '0' && t[1] <= '9'
}
