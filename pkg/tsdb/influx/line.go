package influx

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

var (
	measurementEscapes = strings.NewReplacer(",", `\,`, " ", `\ `)
	tagEscapes         = strings.NewReplacer(",", `\,`, "=", `\=`, " ", `\ `)
)

// key writes a series as a line begins: measurement and tags. What line protocol
// cannot say is ErrInvalidSeries.
func key(lset []telemetry.Label) (string, error) {
	var b strings.Builder
	name := telemetry.Labels(lset).Get(tsdb.NameLabel)
	if name == "" {
		return "", fmt.Errorf("%w: it has no %s", tsdb.ErrInvalidSeries, tsdb.NameLabel)
	}
	b.WriteString(measurementEscapes.Replace(name))
	for i, l := range lset {
		switch {
		case l.Name == "":
			return "", fmt.Errorf("%w: a label has no name", tsdb.ErrInvalidSeries)
		case i > 0 && lset[i-1].Name >= l.Name:
			return "", fmt.Errorf("%w: label %q stands after %q", tsdb.ErrInvalidSeries, l.Name, lset[i-1].Name)
		case !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value):
			return "", fmt.Errorf("%w: label %q is not UTF-8", tsdb.ErrInvalidSeries, l.Name)
		case strings.ContainsAny(l.Name, "\n\r\\") || strings.ContainsAny(l.Value, "\n\r") || strings.HasSuffix(l.Value, `\`):
			return "", fmt.Errorf("%w: label %q has a line break or ends in a backslash, which line protocol cannot say", tsdb.ErrInvalidSeries, l.Name)
		}
		if l.Name == tsdb.NameLabel || l.Value == "" {
			continue
		}
		b.WriteByte(',')
		b.WriteString(tagEscapes.Replace(l.Name))
		b.WriteByte('=')
		b.WriteString(tagEscapes.Replace(l.Value))
	}
	return b.String(), nil
}

// appendLine appends a sample of the series.
func appendLine(dst []byte, key string, t int64, v float64) []byte {
	dst = append(dst, key...)
	dst = append(dst, " value="...)
	dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, t, 10)
	return append(dst, '\n')
}

// keyOf returns the series of a line.
func keyOf(line string) string {
	i := strings.LastIndex(line, " value=")
	return line[:max(0, i)]
}
