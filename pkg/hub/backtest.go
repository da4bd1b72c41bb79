package hub

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// backtestFlags are those of rules backtest.
type backtestFlags struct {
	remote
	from, to, data, sites, csv, column, timeColumn, quantity, device, zone, limits, svg string
	only                                                                                []string
}

func backtestCommand() settings.Command[*Plan] {
	var b backtestFlags
	return settings.Command[*Plan]{
		Use: "backtest FILES", Short: "say which alerts rules would have raised on past readings, of a hub's store or a CSV file", Args: cobra.MinimumNArgs(1),
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&b.from, "from", "", "begin, such as 2026-01-05 or 2026-01-05T08:00:00+07:00; of a CSV file its first row when not said")
			f.StringVar(&b.to, "to", "", "end; now, or of a CSV file its last row, when not said")
			f.StringSliceVar(&b.only, "rule", nil, "only these rules, with * and ?")
			b.remote.flags(f, "http://127.0.0.1:8080", "URL of the hub whose store is read")
			f.StringVar(&b.data, "data", "", "data folder of a hub that is stopped, to be read in its place")
			f.StringVar(&b.sites, "sites", "", "file of sites that rules may name")
			f.StringVar(&b.csv, "csv", "", "read this file instead, plain or .gz")
			f.StringVar(&b.column, "column", "", "column of the values in the CSV file")
			f.StringVar(&b.timeColumn, "time", "", "column of the times in the CSV file")
			f.StringVar(&b.quantity, "quantity", "", "what the CSV file holds, in the quantity's canonical unit")
			f.StringVar(&b.device, "device", "csv", "device that the CSV file stands for")
			f.StringVar(&b.zone, "zone", rules.DefaultZone, "time zone of times without one")
			f.StringVar(&b.limits, "limits", "", "compare several limits of one severity, for example warning=40,50,60")
			f.StringVar(&b.svg, "svg", "", "write a plot to this file")
		},
		Free: func(ctx context.Context, c settings.Call) error { return b.run(ctx, c) },
	}
}

func (b *backtestFlags) run(ctx context.Context, c settings.Call) error {
	env, err := toolEnv(b.sites)
	if err != nil {
		return err
	}
	sources, err := ruleSources(c.Args)
	if err != nil {
		return err
	}
	set, err := loadWithBuiltIn(sources, env)
	if err != nil {
		return err
	}
	if len(b.only) == 0 {
		set = set.Written()
	} else if set = set.Only(b.only...); set.Len() == 0 {
		return fmt.Errorf("no rule is named %s", strings.Join(b.only, ", "))
	}
	if set, err = b.replayable(c.Stderr, set); err != nil {
		return err
	}
	zone, err := time.LoadLocation(b.zone)
	if err != nil {
		return fmt.Errorf("--zone: %w", err)
	}
	from, err := toolTime(b.from, zone)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	to, err := toolTime(b.to, zone)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if to.IsZero() && b.csv == "" {
		to = time.Now()
	}
	var histories []rules.History
	switch {
	case b.csv != "":
		histories, err = b.readCSV(c.Stderr, env, zone, set.Memory(), &from, &to)
	case from.IsZero():
		err = errors.New("--from is missing: say where to begin")
	case !from.Before(to):
		err = fmt.Errorf("--from %s does not lie before --to %s", from.In(zone).Format(time.RFC3339), to.In(zone).Format(time.RFC3339))
	case b.data != "":
		histories, err = readData(ctx, b.data, env, set, from.Add(-set.Memory()), to)
	default:
		histories, err = readHub(ctx, &b.remote, set, from.Add(-set.Memory()), to)
	}
	if err != nil {
		return err
	}
	b.unwatched(c.Stderr, set, histories)
	found, err := b.evaluate(ctx, set, histories, from, to)
	if err != nil {
		return err
	}
	severity, names, sets, err := b.variants(set)
	if err != nil {
		return err
	}
	results := make([][]rules.Episode, len(sets))
	for i := range sets {
		results[i] = rules.Since(rules.Backtest(sets[i], histories, to.UnixMilli()), from)
		for id, list := range found {
			results[i] = append(results[i], rules.BacktestResults(sets[i], id, list)...)
		}
		rules.SortEpisodes(results[i])
	}
	if err := printBacktest(c.Stdout, names, results, severity, from, to, zone); err != nil {
		return err
	}
	if b.svg == "" {
		return nil
	}
	f, err := os.Create(b.svg)
	if err != nil {
		return err
	}
	return errors.Join(rules.Plot(f, &rules.Plots{
		Histories: histories, Judged: rules.Judge(set, histories, to.UnixMilli()), Names: names, Episodes: results, From: from.In(zone), To: to.In(zone),
	}), f.Close())
}

// unwatched says which rules watch nothing of what was read: that they raised nothing
// then says nothing of their limits.
func (b *backtestFlags) unwatched(w io.Writer, set *rules.Set, histories []rules.History) {
	watched := map[string]bool{}
	for i := range histories {
		for _, id := range set.Matches(histories[i].Series) {
			watched[id] = true
		}
	}
	for _, r := range set.Rules() {
		if !watched[r.ID] && r.Quantity != "" && !r.ByClock {
			_, _ = fmt.Fprintf(w, "%s watches none of the series that were read (%d); are quantity and where right? --device names the device that a CSV file stands for\n", r.ID, len(histories))
		}
	}
}

// variants are the sets to be compared.
func (b *backtestFlags) variants(set *rules.Set) (severity alert.Severity, names []string, sets []*rules.Set, err error) {
	if b.limits == "" {
		return alert.None, []string{"rules"}, []*rules.Set{set}, nil
	}
	name, list, _ := strings.Cut(b.limits, "=")
	severity, ok := alert.ParseSeverity(name)
	if !ok {
		return severity, nil, nil, fmt.Errorf("--limits %s: write a severity and limits, for example warning=40,50,60", b.limits)
	}
	for word := range strings.SplitSeq(list, ",") {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return severity, nil, nil, fmt.Errorf("--limits: %q is no number", word)
		}
		other, ok := set.WithLimit(severity, v)
		if !ok {
			return severity, nil, nil, fmt.Errorf("--limits: no rule here has above or below with the severity %s; choose one with --rule", severity)
		}
		names, sets = append(names, word), append(sets, other)
	}
	return severity, names, sets, nil
}

func toolTime(text string, zone *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2026-01-05 or 2026-01-05T08:00:00+07:00", text)
}

func (b *backtestFlags) readCSV(stderr io.Writer, env rules.Env, zone *time.Location, memory time.Duration, from, to *time.Time) ([]rules.History, error) {
	q, ok := env.Quantities[b.quantity]
	if !ok {
		return nil, fmt.Errorf("--quantity %q: say what the file holds, for example pm2_5", b.quantity)
	}
	f, err := os.Open(b.csv)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var in io.Reader = f
	if strings.HasSuffix(b.csv, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("%s: %w", b.csv, err)
		}
	}
	list, skipped, err := rules.ReadCSV(filepath.Base(b.csv), in, rules.CSVOptions{Column: b.column, Time: b.timeColumn, Zone: zone})
	if err != nil {
		return nil, err
	}
	if skipped > 0 {
		_, _ = fmt.Fprintf(stderr, "%s: %s that go back in time left out\n", b.csv, settings.Count(skipped, "row"))
	}
	for len(list) > 0 && !from.IsZero() && list[0].Time < from.Add(-memory).UnixMilli() {
		list = list[1:]
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no readings of that time", b.csv)
	}
	if from.IsZero() {
		*from = time.UnixMilli(list[0].Time)
	}
	if to.IsZero() {
		*to = time.UnixMilli(list[len(list)-1].Time)
	}
	series := telemetry.BoundSeries{Site: "csv", Edge: "csv", Device: b.device, Point: q.ID, Quantity: q.ID, Unit: q.Unit}
	return []rules.History{{Series: series, Readings: list}}, nil
}

// replayable leaves out what has no backtest: rules that are judged by what the hub
// hears, for nothing keeps when that was.
func (b *backtestFlags) replayable(stderr io.Writer, set *rules.Set) (*rules.Set, error) {
	var keep, out, ask, why []string
	for _, r := range set.Rules() {
		switch {
		case r.Kind == rules.Fewer || r.Kind == rules.EdgeOffline:
			out = append(out, r.ID)
		case r.Kind == rules.Expression && b.data != "":
			ask = append(ask, r.ID)
		default:
			keep = append(keep, r.ID)
		}
	}
	if len(out) > 0 {
		why = append(why, "left out, for they are judged by when the hub heard something, and nothing keeps that: "+strings.Join(out, ", "))
	}
	if len(ask) > 0 {
		why = append(why, "left out, for expressions are asked of a hub that runs (--hub): "+strings.Join(ask, ", "))
	}
	switch {
	case len(why) == 0:
		return set, nil
	case len(keep) == 0:
		return nil, errors.New(strings.Join(why, "\n"))
	}
	_, err := fmt.Fprintln(stderr, strings.Join(why, "\n"))
	return set.Only(keep...), err
}

// evaluate asks for the results of the expressions, at every step of the time.
func (b *backtestFlags) evaluate(ctx context.Context, set *rules.Set, histories []rules.History, from, to time.Time) (map[string][]rules.Found, error) {
	found := map[string][]rules.Found{}
	for _, r := range set.Rules() {
		if r.Kind != rules.Expression {
			continue
		}
		var err error
		if b.csv != "" {
			found[r.ID], err = rules.EvaluateAll(ctx, overReadings(histories), &r, from, to)
		} else {
			found[r.ID], err = evaluateStore(ctx, &b.remote, &r, from, to)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// stepsAtOnce is how many steps of an expression the hub is asked for at once.
const stepsAtOnce = 5000

// evaluateStore lets a hub evaluate an expression over its store.
func evaluateStore(ctx context.Context, hub *remote, r *rules.RuleInfo, from, to time.Time) (out []rules.Found, err error) {
	query, err := promapi.OnTime(r.Query)
	if err != nil {
		return nil, err
	}
	seconds := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	for at := from; !at.After(to); at = at.Add(stepsAtOnce * r.Every) {
		end := at.Add((stepsAtOnce - 1) * r.Every)
		if end.After(to) {
			end = to
		}
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string `json:"metric"`
					Values [][2]any          `json:"values"`
				} `json:"result"`
			} `json:"data"`
		}
		if err := hub.get(ctx, "/prometheus/api/v1/query_range", url.Values{
			"query": {query}, "start": {seconds(at)}, "end": {seconds(end)}, "step": {strconv.FormatFloat(r.Every.Seconds(), 'f', 3, 64)},
		}, &answer); err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.ID, err)
		}
		first := len(out)
		for t := at; !t.After(end); t = t.Add(r.Every) {
			out = append(out, rules.Found{Time: t.UnixMilli()})
		}
		for _, s := range answer.Data.Result {
			delete(s.Metric, "__name__")
			ls := telemetry.NewLabels(s.Metric)
			for _, v := range s.Values {
				t, x, err := apiValue(v)
				if err != nil {
					return nil, err
				}
				if n := first + int((t-at.UnixMilli()+r.Every.Milliseconds()/2)/r.Every.Milliseconds()); n < len(out) {
					out[n].Samples = append(out[n].Samples, rules.Sample{Labels: ls, Value: x})
				}
			}
		}
	}
	return out, nil
}

// apiValue reads a value as Prometheus' API writes it: time in ms, and number.
func apiValue(v [2]any) (int64, float64, error) {
	t, ok := v[0].(float64)
	text, ok2 := v[1].(string)
	x, err := strconv.ParseFloat(text, 64)
	if !ok || !ok2 || err != nil {
		return 0, 0, errors.New("the hub's answer cannot be read")
	}
	return int64(t*1000 + 0.5), x, nil
}

// maxShown bounds the episodes that are listed.
const maxShown = 50

// printBacktest writes the summary and the episodes. Severity is that of which several
// limits are compared, or None.
func printBacktest(w io.Writer, names []string, results [][]rules.Episode, severity alert.Severity, from, to time.Time, zone *time.Location) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "%s to %s\n\n", from.In(zone).Format(time.RFC3339), to.In(zone).Format(time.RFC3339))
	_, _ = fmt.Fprintln(t, "LIMITS\tAT LEAST\tEPISODES\tPER WEEK\tSTANDING\tSHARE\tMEDIAN\tLONGEST\tOPEN")
	for i, list := range results {
		for s := alert.Info; s <= alert.Emergency; s++ {
			if severity != alert.None && s != severity {
				continue
			}
			if severity == alert.None && !slices.ContainsFunc(list, func(e rules.Episode) bool {
				return slices.ContainsFunc(e.Steps, func(step rules.EpisodeStep) bool { return step.Severity == s })
			}) {
				continue
			}
			sum := rules.SummarizeAt(list, s, from, to)
			_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%.2f\t%s\t%.2f %%\t%s\t%s\t%d\n", names[i], s, sum.Episodes, sum.PerWeek, spanText(sum.Standing), 100*sum.Share,
				spanText(sum.Median), spanText(sum.Longest), sum.Open)
		}
	}
	_ = t.Flush()
	for i, list := range results {
		if len(results) > 1 {
			_, _ = fmt.Fprintf(w, "\n%s:\n", names[i])
		} else {
			_, _ = fmt.Fprintln(w)
		}
		if len(list) == 0 {
			_, _ = fmt.Fprintln(w, "no episodes")
			continue
		}
		_, _ = fmt.Fprintln(t, "START\tEND\tLASTED\tSEVERITY\tRULE\tSERIES\tPEAK\tLIMIT")
		for k := range list[:min(len(list), maxShown)] {
			e := &list[k]
			end, lasted := "stands", to.Sub(e.Start)
			if !e.End.IsZero() {
				end, lasted = e.End.In(zone).Format(time.DateTime), e.End.Sub(e.Start)
			}
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%.6g\t%.6g\n", e.Start.In(zone).Format(time.DateTime), end, spanText(lasted),
				e.Severity, e.Rule, e.Series, e.Peak, e.Limit)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if n := len(list) - maxShown; n > 0 {
			_, _ = fmt.Fprintf(w, "and %d more\n", n)
		}
	}
	return nil
}

// spanText writes a duration by its two largest units: 3d22h, 6m10s.
func spanText(d time.Duration) string {
	for _, u := range []struct {
		of          time.Duration
		name, lower string
		lowerOf     time.Duration
	}{{24 * time.Hour, "d", "h", time.Hour}, {time.Hour, "h", "m", time.Minute}, {time.Minute, "m", "s", time.Second}} {
		if d >= u.of {
			d = d.Round(u.lowerOf)
			if rest := d % u.of / u.lowerOf; rest > 0 {
				return fmt.Sprintf("%d%s%d%s", d/u.of, u.name, rest, u.lower)
			}
			return fmt.Sprintf("%d%s", d/u.of, u.name)
		}
	}
	return d.Round(time.Millisecond).String()
}
