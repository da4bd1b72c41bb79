package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// The commands about what edges are to run.

func edgeConfigCommands() []settings.Command[*Plan] {
	return []settings.Command[*Plan]{setConfigCommand(), showConfigCommand(), diffConfigCommand(), configHistoryCommand(), clearConfigCommand(), adoptConfigCommand()}
}

func configPath(edge, rest string) string {
	return "/api/v1/edges/" + url.PathEscape(edge) + "/config" + rest
}

// askConfig is request with If-Match, and tells faults as their lines alone.
func askConfig(ctx context.Context, plan *Plan, method, path string, match *uint64, body, answer any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, consoleURL+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if match != nil {
		req.Header.Set("If-Match", `"`+strconv.FormatUint(*match, 10)+`"`)
	}
	resp, err := plan.console().Do(req)
	if err != nil {
		return plan.unreached(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if data, err = io.ReadAll(io.LimitReader(resp.Body, 8<<20)); err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusOK:
		return json.Unmarshal(data, answer)
	}
	var problem struct {
		Detail string
		Faults []api.Fault
	}
	if json.Unmarshal(data, &problem) != nil || problem.Detail == "" {
		return fmt.Errorf("the hub answered %s", resp.Status)
	}
	if len(problem.Faults) == 0 {
		return errors.New(problem.Detail)
	}
	lines := make([]string, len(problem.Faults))
	for i, f := range problem.Faults {
		lines[i] = f.Message
	}
	return settings.Usagef("%s", strings.Join(lines, "\n"))
}

// saidBy are the flags of who does it and why.
func saidBy(fs *pflag.FlagSet, who, why *string) {
	fs.StringVar(who, "who", "", "name of who does it; the user of this machine when not said")
	fs.StringVar(why, "why", "", "what it is for; stands in the history")
}

func currentConfig(ctx context.Context, plan *Plan, edge string) (c api.EdgeConfig, err error) {
	return c, askConfig(ctx, plan, http.MethodGet, configPath(edge, ""), nil, nil, &c)
}

// stands says in a line how it stands with an edge.
func stands(c *api.ConfigStatus) string {
	var text string
	switch c.State {
	case "none":
		text = "nothing is wanted of it"
	case "gateway":
		text = "the gateway decides"
	case "waiting":
		text = fmt.Sprintf("version %d waits for the edge", c.Desired)
	case "trial":
		text = fmt.Sprintf("version %d runs on trial", c.Desired)
	case "in_step":
		text = fmt.Sprintf("in step: version %d runs", c.Desired)
	case "refused":
		text = fmt.Sprintf("version %d was REFUSED", c.Desired)
	case "rolled_back":
		text = fmt.Sprintf("version %d was tried and TAKEN BACK by the edge", c.Desired)
	case "drift":
		text = fmt.Sprintf("version %d runs, and there is DRIFT", c.Desired)
	default:
		text = "UNKNOWN"
	}
	if c.State != "in_step" && c.State != "trial" && c.Running != 0 && c.Running != c.Desired {
		text += fmt.Sprintf("; version %d runs", c.Running)
	}
	if c.Detail != "" {
		text += ": " + c.Detail
	}
	return text
}

func setConfigCommand() settings.Command[*Plan] {
	var body api.ConfigChange
	var dry bool
	var wait time.Duration
	var expect int64
	return settings.Command[*Plan]{
		Use: "set EDGE FILE", Short: "let an edge run a file: filters, connections and devices as in edge.yaml; - reads standard input",
		Args: cobra.ExactArgs(2),
		Flags: func(fs *pflag.FlagSet) {
			saidBy(fs, &body.Who, &body.Why)
			fs.BoolVar(&dry, "dry-run", false, "judge the file, say what would change, and change nothing")
			fs.DurationVar(&wait, "wait", 20*time.Second, "how long to wait for what the edge makes of it; 0s: not")
			fs.Int64Var(&expect, "if", -1, "number of the version that you have seen last: fails when another stands")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			edge := c.Args[0]
			text, err := readConfig(c)
			if err != nil {
				return err
			}
			if body.Document = text; c.Args[1] != "-" {
				body.Name = filepath.Base(c.Args[1])
			}
			body.Who = me(body.Who)
			now, err := currentConfig(ctx, plan, edge)
			if err != nil {
				return err
			}
			match := now.Current
			if expect >= 0 {
				match = uint64(expect)
			}
			query := ""
			if dry {
				query = "?dry_run=true"
			}
			var out api.ConfigResult
			if err := askConfig(ctx, plan, http.MethodPut, configPath(edge, query), &match, body, &out); err != nil {
				return err
			}
			for _, w := range out.Warnings {
				_, _ = fmt.Fprintf(c.Stderr, "%s (warning)\n", w.Message)
			}
			what := fmt.Sprintf("%s, %s, %s", settings.Count(out.Connections, "connection"), settings.Count(out.Devices, "device"), settings.Count(out.Points, "point"))
			if dry {
				_, _ = fmt.Fprintf(c.Stdout, "fine: %s; nothing was changed\n", what)
				_, err := fmt.Fprint(c.Stdout, difference(versionName(&now), now.Document, c.Args[1], body.Document))
				return err
			}
			if !out.Changed {
				_, err := fmt.Fprintf(c.Stdout, "%s is to run this already, version %d: %s\n", edge, out.Version, out.State)
				return err
			}
			_, _ = fmt.Fprintf(c.Stdout, "version %d of %s: %s\n", out.Version, edge, what)
			return awaitConfig(ctx, c, plan, edge, wait)
		},
	}
}

func readConfig(c settings.Call) (string, error) {
	var data []byte
	var err error
	if c.Args[1] == "-" {
		data, err = io.ReadAll(io.LimitReader(c.Stdin, 1<<20))
	} else {
		data, err = os.ReadFile(c.Args[1])
	}
	return string(data), err
}

// awaitConfig tells what the edge makes of it, as far as that is known in time. It
// fails when the edge does not take it.
func awaitConfig(ctx context.Context, c settings.Call, plan *Plan, edge string, wait time.Duration) error {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := currentConfig(ctx, plan, edge)
		if err != nil {
			return err
		}
		switch now.State {
		case "refused", "rolled_back", "unknown":
			return errors.New(stands(&now.ConfigStatus))
		case "waiting":
			if now.Said == nil { // nobody knows whether it will
				_, err := fmt.Fprintln(c.Stdout, stands(&now.ConfigStatus))
				return err
			}
		default:
			_, err := fmt.Fprintln(c.Stdout, stands(&now.ConfigStatus))
			return err
		}
		select {
		case <-tick.C:
		case <-limit.C:
			_, err := fmt.Fprintf(c.Stdout, "%s; langbiang-hub edges config show %s tells what came of it\n", stands(&now.ConfigStatus), edge)
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func versionName(c *api.EdgeConfig) string {
	if c.Version == nil {
		return "nothing"
	}
	return fmt.Sprintf("version %d", c.Version.Version)
}

func showConfigCommand() settings.Command[*Plan] {
	var running bool
	var version uint64
	return settings.Command[*Plan]{
		Use: "show EDGE", Short: "show what an edge is to run and how it stands with that; --running asks the edge for what it has",
		Args: cobra.ExactArgs(1),
		Flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&running, "running", false, "ask the edge for what it has: its own edge.yaml's part where that counts or was changed")
			fs.Uint64Var(&version, "version", 0, "an earlier version")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			edge := c.Args[0]
			if running {
				var out api.RunningConfig
				if err := askConfig(ctx, plan, http.MethodGet, configPath(edge, "/running"), nil, nil, &out); err != nil {
					return err
				}
				_, _ = fmt.Fprintf(c.Stderr, "# %s has %s\n", edge, runningName(&out))
				_, err := io.WriteString(c.Stdout, out.Document)
				return err
			}
			rest := ""
			if version != 0 {
				rest = fmt.Sprintf("?version=%d", version)
			}
			var out api.EdgeConfig
			if err := askConfig(ctx, plan, http.MethodGet, configPath(edge, rest), nil, nil, &out); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.Stderr, "# %s: %s\n", edge, strings.ReplaceAll(stands(&out.ConfigStatus), "\n", "\n#   "))
			if v := out.Version; v != nil {
				_, _ = fmt.Fprintf(c.Stderr, "# version %d (%s) of %s, %s%s\n", v.Version, v.Name, nobody(v.Who), when(&v.At), because(v.Why))
			}
			_, err := io.WriteString(c.Stdout, out.Document)
			return err
		},
	}
}

func runningName(r *api.RunningConfig) string {
	if r.Version == 0 {
		return "in its own " + r.Name
	}
	return fmt.Sprintf("version %d (%s)", r.Version, r.Name)
}

func nobody(who string) string {
	if who == "" {
		return "somebody"
	}
	return who
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func diffConfigCommand() settings.Command[*Plan] {
	var from, to uint64
	return settings.Command[*Plan]{
		Use: "diff EDGE [FILE]", Short: "compare what an edge is to run with a file, with what it has (asked now), or with another version",
		Args: cobra.RangeArgs(1, 2),
		Flags: func(fs *pflag.FlagSet) {
			fs.Uint64Var(&from, "from", 0, "the version to begin with; what is wanted when not said")
			fs.Uint64Var(&to, "to", 0, "the version to compare with, in place of a file and of what the edge has")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			edge := c.Args[0]
			version := func(n uint64) (out api.EdgeConfig, err error) {
				rest := ""
				if n != 0 {
					rest = fmt.Sprintf("?version=%d", n)
				}
				return out, askConfig(ctx, plan, http.MethodGet, configPath(edge, rest), nil, nil, &out)
			}
			a, err := version(from)
			if err != nil {
				return err
			}
			var name, text string
			switch {
			case len(c.Args) == 2:
				name = c.Args[1]
				text, err = readConfig(c)
			case to != 0:
				var b api.EdgeConfig
				b, err = version(to)
				name, text = versionName(&b), b.Document
			default:
				var out api.RunningConfig
				err = askConfig(ctx, plan, http.MethodGet, configPath(edge, "/running"), nil, nil, &out)
				name, text = runningName(&out), out.Document
			}
			if err != nil {
				return err
			}
			d := difference(versionName(&a), a.Document, name, text)
			if d == "" {
				d = fmt.Sprintf("%s and %s are the same\n", versionName(&a), name)
			}
			_, err = io.WriteString(c.Stdout, d)
			return err
		},
	}
}

func configHistoryCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "history EDGE", Short: "list who set what, newest first",
		Args: cobra.ExactArgs(1),
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			return table(ctx, c, plan, configPath(c.Args[0], "/history?limit=1000"), "VERSION\tWHEN\tWHO\tFILE\tBYTES\tWHY", func(v api.ConfigVersion) string {
				name := v.Name
				if v.Cleared {
					name = "(cleared)"
				}
				return strings.Join([]string{strconv.FormatUint(v.Version, 10), when(&v.At), v.Who, name, strconv.Itoa(v.Bytes), v.Why}, "\t")
			})
		},
	}
}

func clearConfigCommand() settings.Command[*Plan] {
	var who, why string
	return settings.Command[*Plan]{
		Use: "clear EDGE", Short: "want nothing of an edge any more; it goes on with what it runs",
		Args:  cobra.ExactArgs(1),
		Flags: func(fs *pflag.FlagSet) { saidBy(fs, &who, &why) },
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			edge := c.Args[0]
			now, err := currentConfig(ctx, plan, edge)
			if err != nil {
				return err
			}
			if err := askConfig(ctx, plan, http.MethodDelete, configPath(edge, "?"+url.Values{"who": {me(who)}, "why": {why}}.Encode()), &now.Current, nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.Stdout, "nothing is wanted of %s any more; it goes on with what it runs\n", edge)
			return err
		},
	}
}

func adoptConfigCommand() settings.Command[*Plan] {
	var who, why string
	return settings.Command[*Plan]{
		Use: "adopt EDGE", Short: "let an edge run what it has: its own edge.yaml's part where that counts or was changed",
		Args:  cobra.ExactArgs(1),
		Flags: func(fs *pflag.FlagSet) { saidBy(fs, &who, &why) },
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			edge := c.Args[0]
			now, err := currentConfig(ctx, plan, edge)
			if err != nil {
				return err
			}
			var out api.ConfigResult
			body := map[string]string{"who": me(who), "why": why}
			if err := askConfig(ctx, plan, http.MethodPost, configPath(edge, "/adopt"), &now.Current, body, &out); err != nil {
				return err
			}
			if !out.Changed {
				_, err := fmt.Fprintf(c.Stdout, "%s is to run what it has already, version %d\n", edge, out.Version)
				return err
			}
			_, _ = fmt.Fprintf(c.Stdout, "version %d of %s: %s, %s\n", out.Version, edge, settings.Count(out.Connections, "connection"), settings.Count(out.Devices, "device"))
			return awaitConfig(ctx, c, plan, edge, 20*time.Second)
		},
	}
}

func listEdgesCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "list", Short: "list the edges: when they were heard, and what they run",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			return table(ctx, c, plan, "/api/v1/edges?limit=1000", "EDGE\tSITE\tLINK\tSEEN\tAGENT\tSTATUS\tCONFIGURATION", func(e api.Edge) string {
				link, config := "down", "-"
				if e.Connected {
					link = "up"
				}
				if e.Configuration != nil {
					config, _, _ = strings.Cut(stands(e.Configuration), "\n")
				}
				return strings.Join([]string{e.ID, e.Site, link, when(e.LastSeen), e.Version, e.Status, config}, "\t")
			})
		},
	}
}

// difference is a unified diff of two texts, empty when they are the same.
func difference(fromName, from, toName, to string) string {
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(from), B: difflib.SplitLines(to), FromFile: fromName, ToFile: toName, Context: 3,
	})
	if err != nil || from == to {
		return ""
	}
	return text
}
