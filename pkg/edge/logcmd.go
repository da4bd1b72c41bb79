package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

func logCommand() settings.Command[*Plan] {
	var lines int
	var level, match string
	var since time.Duration
	var follow bool
	return settings.Command[*Plan]{
		Use: "log", Short: "show the newest lines that the running agent has logged",
		Flags: func(f *pflag.FlagSet) {
			f.IntVar(&lines, "lines", defaultLogLines, "how many at most")
			f.StringVar(&level, "level", "", "those of this level and above: debug, info, warn or error")
			f.DurationVar(&since, "since", 0, "those of the last minutes or hours, such as 30m")
			f.StringVar(&match, "match", "", "those with this text somewhere")
			f.BoolVar(&follow, "follow", false, "go on with what is logged from now on, until Ctrl-C")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			q := url.Values{"kind": {"log"}, "lines": {strconv.Itoa(lines)}, "level": {level}, "match": {match}, "follow": {strconv.FormatBool(follow)}}
			if since > 0 {
				q.Set("since", since.String())
			}
			body, err := askStream(ctx, plan.Config.DataDir, "/ask", q)
			switch {
			case errors.Is(err, errNotRunning):
				return fmt.Errorf("%w (%s); what it logged before is with the service manager: journalctl -u langbiang-edge", err, plan.Config.DataDir)
			case err != nil:
				return err
			}
			defer func() { _ = body.Close() }() // read to its end
			if _, err = io.Copy(c.Stdout, body); ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
}
