package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

func exportCommand() settings.Command[*Plan] {
	var from, to, format, output string
	return settings.Command[*Plan]{
		Use: "export SELECTOR...", Short: "write samples of the running hub to a file, as CSV or lines of JSON",
		Long: `Write the samples of all series that a selector chooses, as CSV or as lines of JSON,
while the hub runs. With --output the file has its name only when it is whole; until
then, and after a failure, it is called NAME.part. Examples:

  langbiang-hub export 'pm2_5{site="24848"}' --from 2026-11-01T00:00:00+07:00 --output pm.csv
  langbiang-hub export '{edge="lac-duong-01"}' --format ndjson | gzip > edge.ndjson.gz`,
		Args: cobra.MinimumNArgs(1),
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&from, "from", "", "first time, for example 2026-11-01T00:00:00+07:00 (default: the oldest sample)")
			f.StringVar(&to, "to", "", "last time (default: now)")
			f.StringVar(&format, "format", "csv", "csv or ndjson")
			f.StringVarP(&output, "output", "o", "", "file to write; it must not exist (default: standard output)")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			q := url.Values{"match[]": c.Args, "format": {format}}
			for name, v := range map[string]string{"from": from, "to": to} {
				if v != "" {
					q.Set(name, v)
				}
			}
			if output == "" {
				_, err := fetch(ctx, plan, q, c.Stdout)
				return err
			}
			if _, err := os.Stat(output); err == nil {
				return fmt.Errorf("%s is there already; remove it, or choose another name", output)
			}
			n, err := toFile(output, func(w io.Writer) (int64, error) { return fetch(ctx, plan, q, w) })
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.Stdout, "%s: %d bytes\n", output, n)
			return err
		},
	}
}

// toFile writes a file that has its name only when it is whole and on disk.
func toFile(name string, write func(io.Writer) (int64, error)) (int64, error) {
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640) //nolint:gosec // the user names it
	if err != nil {
		return 0, err
	}
	n, err := write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return n, fmt.Errorf("%w; what came stands in %s", err, part)
	}
	return n, os.Rename(part, name)
}

// fetch streams an export of the running hub.
func fetch(ctx context.Context, plan *Plan, q url.Values, w io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, consoleURL+"/api/v1/export?"+q.Encode(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := plan.console().Do(req)
	if err != nil {
		return 0, plan.unreached(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		var p struct{ Title, Detail string }
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p) != nil || p.Title == "" {
			return 0, fmt.Errorf("the hub answered %s", resp.Status)
		}
		return 0, errors.New(p.Title + ": " + p.Detail)
	}
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return n, fmt.Errorf("the export ended early, after %d bytes: %w", n, err)
	}
	return n, nil
}
