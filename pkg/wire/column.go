package wire

import (
	"cmp"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The bits of a column's head byte.
const (
	seriesOne         = 0x00 // one series
	seriesProgression = 0x01 // several, the same step apart
	seriesList        = 0x02 // several
	seriesMask        = 0x03

	headSeveral = 0x04 // more than one reading of each series: their number follows

	timesOne   = 0 << 3 // all readings at one time
	timesLast  = 1 << 3 // as in the column before
	timesBack  = 2 << 3 // as in a column further back
	timesGrid  = 3 << 3 // all series at the same times
	timesEach  = 4 << 3 // a time for each reading
	timesTable = 5 << 3 // an index into the block's instants for each reading
	timesMask  = 0x38

	qualityGood  = 0 << 6 // all good
	qualityConst = 1 << 6 // all the same byte
	qualityRuns  = 2 << 6
	qualityMask  = 0xc0
)

// column is a run of readings that are encoded together: m series with c
// readings each, series by series.
type column struct {
	from, m, c int
	key        int32 // its series are alike; see row
}

func (c *column) len() int { return c.m * c.c }

// layout puts readings into columns, each of many series that measure the same:
// they share a scale, and what is learnt of how they move. Where there are few of
// those, series that only need as many decimals share a column, because each column
// costs some bytes. Without a schema nothing
// is known of which series are alike; then each gets a column of its own in frames
// with many readings of each. It keeps scratch memory.
type layout struct {
	// By series, empty without a schema: its group of those that measure the
	// same, and its place in the order of the columns.
	group  []int32
	rank   []int32
	groups int32
	// By series: the decimals that its values need.
	need []decimalsOf

	alone bool // each series has a column of its own

	count []int32
	order []int32
	rows  []row
	cols  []column
}

// row is the readings of one series.
type row struct {
	series  uint32
	from, n int32 // in order
	key     int32 // of the column that it belongs to: the group, or beyond the groups the decimals
}

// decimalsOf is how many decimals the values of a series have needed lately.
type decimalsOf struct {
	exp   int8
	lower int8 // the most of the values since one needed exp
	since uint8
}

// mergeBelow is how many readings of a group are enough for a column of its own;
// forgetAfter after how many frames fewer decimals are believed.
const (
	mergeBelow  = 8
	forgetAfter = 16
)

// aloneFrom is how many readings a series must have on average to get a column of
// its own, when nothing is known of which series are alike.
const aloneFrom = 4

func (l *layout) groupOf(series uint32) int32 {
	if int(series) < len(l.group) {
		return l.group[series]
	}
	return 0
}

func (l *layout) rankOf(series uint32) uint32 {
	if int(series) < len(l.rank) {
		return uint32(l.rank[series])
	}
	return series
}

// arrange sorts the readings by column, series and time, and cuts columns. Rows
// that share columns are sorted by the number of their readings, then by series.
func (l *layout) arrange(readings []telemetry.Reading) {
	l.sort(readings)
	l.alone = len(l.group) == 0 && len(readings) >= aloneFrom*len(l.rows)
	l.assign(readings)
	l.cut()
}

// sort fills order and rows: a counting sort by rank, then by time where the
// readings of a series came out of order.
func (l *layout) sort(readings []telemetry.Reading) {
	top := uint32(0)
	for i := range readings {
		top = max(top, l.rankOf(readings[i].Series))
	}
	l.count = grow(l.count, int(top)+1)
	clear(l.count)
	for i := range readings {
		l.count[l.rankOf(readings[i].Series)]++
	}
	l.rows = l.rows[:0]
	sum := int32(0)
	for rank, n := range l.count {
		if n > 0 {
			l.rows = append(l.rows, row{from: sum, n: n})
		}
		l.count[rank] = sum
		sum += n
	}
	l.order = grow(l.order, len(readings))
	for i := range readings {
		at := &l.count[l.rankOf(readings[i].Series)]
		l.order[*at] = int32(i)
		*at++
	}
	for i := range l.rows {
		r := &l.rows[i]
		line := l.order[r.from : r.from+r.n]
		r.series = readings[line[0]].Series
		for j := 1; j < len(line); j++ {
			if readings[line[j]].Time < readings[line[j-1]].Time {
				slices.SortStableFunc(line, func(a, b int32) int {
					return cmp.Compare(readings[a].Time, readings[b].Time)
				})
				break
			}
		}
	}
}

// assign decides which rows share columns.
func (l *layout) assign(readings []telemetry.Reading) {
	merged := false
	for i := 0; i < len(l.rows); {
		group, j, n := l.groupOf(l.rows[i].series), i, int32(0)
		for ; j < len(l.rows) && l.groupOf(l.rows[j].series) == group; j++ {
			l.rows[j].key = group
			n += l.rows[j].n
		}
		texts := func(r row) bool { return readings[l.order[r.from]].Text != "" }
		if len(l.group) > 0 && n < mergeBelow && !slices.ContainsFunc(l.rows[i:j], texts) {
			merged = true
			for k := i; k < j; k++ {
				l.rows[k].key = l.groups + int32(l.decimals(&l.rows[k], readings))
			}
		}
		i = j
	}
	if merged {
		slices.SortStableFunc(l.rows, func(a, b row) int {
			if a.key == b.key && a.key >= l.groups {
				return cmp.Compare(a.series, b.series) // whose numbers then take little, and whose times repeat
			}
			return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(l.rankOf(a.series), l.rankOf(b.series)))
		})
	}
}

// decimals returns how many decimals the values of a row are written with.
func (l *layout) decimals(r *row, readings []telemetry.Reading) int8 {
	if int(r.series) >= len(l.need) {
		return 0
	}
	d := &l.need[r.series]
	most := int8(0)
	for _, i := range l.order[r.from : r.from+r.n] {
		v := readings[i].Value
		s := scale{scaleDivide, most}.scaler()
		if _, ok := s.integer(v); ok {
			continue
		}
		if e, ok := digits(v, scaleDivide); ok {
			most = e
		} else {
			most = maxExp
			break
		}
	}
	switch {
	case most >= d.exp:
		*d = decimalsOf{exp: most}
	case d.since >= forgetAfter:
		*d = decimalsOf{exp: max(most, d.lower)}
	default:
		d.since++
		d.lower = max(d.lower, most)
	}
	return d.exp
}

// cut makes columns of neighbouring rows of one key that are equally long.
func (l *layout) cut() {
	l.cols = l.cols[:0]
	from := 0
	for i := 0; i < len(l.rows); {
		key, j, even := l.rows[i].key, i+1, true
		for !l.alone && j < len(l.rows) && l.rows[j].key == key {
			even = even && l.rows[j].n == l.rows[i].n
			j++
		}
		rows := l.rows[i:j]
		if !even {
			slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.n, b.n) })
		}
		for k := range rows {
			n := int(rows[k].n)
			if last := len(l.cols) - 1; k > 0 && n == l.cols[last].c {
				l.cols[last].m++
			} else {
				l.cols = append(l.cols, column{from: from, m: 1, c: n, key: key})
			}
			from += n
		}
		i = j
	}
}

// setSchema makes groups of the series that measure the same with the same kind
// of device.
func (l *layout) setSchema(s *telemetry.Schema) {
	l.group, l.rank, l.need, l.groups = nil, nil, nil, 1
	if s == nil || len(s.Series) == 0 {
		return
	}
	profile := func(i int32) string {
		if d := s.Series[i].Device; int(d) < len(s.Devices) {
			return s.Devices[d].Profile
		}
		return ""
	}
	alike := func(a, b int32) int {
		x, y := &s.Series[a], &s.Series[b]
		return cmp.Or(
			strings.Compare(x.Quantity, y.Quantity),
			strings.Compare(profile(a), profile(b)),
			strings.Compare(x.Point, y.Point),
		)
	}
	order := make([]int32, len(s.Series))
	for i := range order {
		order[i] = int32(i)
	}
	l.group, l.rank = make([]int32, len(order)), make([]int32, len(order))
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(alike(a, b), cmp.Compare(a, b)) })
	group := int32(0)
	for rank, i := range order {
		if rank > 0 && alike(order[rank-1], i) != 0 {
			group++
		}
		l.rank[i], l.group[i] = int32(rank), group
	}
	l.groups, l.need = group+1, make([]decimalsOf, len(s.Series))
}
