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
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/internal/doctor"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/questions"
	"github.com/langbiang/langbiang/pkg/wire"
)

// hello is told of every hello of an edge that was taken.
func (h *Hub) hello(edge string, document []byte) {
	h.registry.hello(edge, document)
	h.asker.Greeted(edge)
}

// asking puts questions to agents for the API.
type asking struct{ hub *Hub }

// Ask implements [api.Asking].
func (a asking) Ask(ctx context.Context, edge string, q api.Question, show func(text string) error) (api.Answered, error) {
	e, err := a.willing(edge)
	if err != nil {
		return api.Answered{}, err
	}
	a.hub.logger.Info("an edge is asked", "edge", edge, "kind", q.Kind, "args", q.Args, "who", q.Who)
	out, err := a.hub.asker.Ask(ctx, edge, questions.Question{Kind: q.Kind, Args: q.Args, For: q.Length, Who: q.Who}, show)
	answered := api.Answered{
		Failed: out.Failed, Truncated: out.Truncated, Metered: out.Metered, Messages: out.Messages, Bytes: out.Bytes, TookMS: out.Took.Milliseconds(),
	}
	no := func(status int, wait time.Duration, what string) error {
		return &api.Refusal{Status: status, Wait: wait, What: what}
	}
	switch {
	case errors.Is(err, questions.ErrBusy):
		err = no(http.StatusTooManyRequests, 5*time.Second, err.Error()+"; wait for their answers")
	case errors.Is(err, questions.ErrSilent):
		if now := a.status(edge); now != nil {
			e = now
		}
		err = no(http.StatusGatewayTimeout, 0, fmt.Sprintf("%v; the edge was last heard %s", err, ago(e.LastSeen)))
	case errors.Is(err, questions.ErrRefused):
		err = no(http.StatusUnprocessableEntity, 0, err.Error())
	case errors.Is(err, questions.ErrLost):
		err = no(http.StatusConflict, 0, err.Error()+"; ask again")
	case errors.Is(err, wire.ErrInvalid), errors.Is(err, wire.ErrTooLarge):
		err = no(http.StatusBadRequest, 0, fmt.Sprintf("the question is too long: at most %d arguments of %d bytes", wire.MaxArgs, wire.MaxArg))
	}
	return answered, err
}

func (a asking) status(edge string) *ingest.EdgeStatus {
	all := a.hub.agents()
	if i := slices.IndexFunc(all, func(e ingest.EdgeStatus) bool { return e.Edge == edge }); i >= 0 {
		return &all[i]
	}
	return nil
}

// willing says why an edge cannot be asked now.
func (a asking) willing(edge string) (*ingest.EdgeStatus, error) {
	e := a.status(edge)
	no := func(status int, what string) error { return &api.Refusal{Status: status, What: what} }
	switch {
	case e == nil:
		return nil, no(http.StatusNotFound, fmt.Sprintf("the hub has never heard of an edge %.63q", edge))
	case a.hub.sources.has(edge):
		return nil, no(http.StatusConflict, edge+" is a source of pushed data, and has no agent to be asked")
	case !e.Connected || e.Hello.V == 0:
		return nil, no(http.StatusConflict, "the edge is not connected; it was last heard "+ago(e.LastSeen))
	case e.Hello.Ask == wire.AskOff:
		return nil, no(http.StatusForbidden, "the gateway does not let itself be asked (hub.remote: off in its edge.yaml)")
	case e.Hello.Ask != wire.AskOn:
		return nil, no(http.StatusConflict, fmt.Sprintf("the agent there (version %.40q) is too old to be asked; update it", e.Hello.Version))
	}
	return e, nil
}

// ago says how long ago something was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "before the hub was started"
	}
	return fmt.Sprintf("%v ago (%s)", time.Since(t).Round(time.Second), t.Format(time.RFC3339))
}

func askEdgeCommand() settings.Command[*Plan] {
	var lines int
	var level, match string
	var since, length time.Duration
	var follow bool
	return settings.Command[*Plan]{
		Use:   "ask EDGE doctor|status|why DEVICE|read [DEVICE [POINT]]|log|trace CONNECTION",
		Short: "ask the agent of an edge, over the connection that it has made: what the commands of those names tell on the gateway",
		Args:  cobra.RangeArgs(2, 4),
		Flags: func(f *pflag.FlagSet) {
			f.IntVar(&lines, "lines", 0, "of log: how many of the newest lines; 200 when not said")
			f.StringVar(&level, "level", "", "of log: lines of this level and above: debug, info, warn or error")
			f.DurationVar(&since, "since", 0, "of log: lines of the last minutes or hours, such as 30m")
			f.StringVar(&match, "match", "", "of log: lines with this text somewhere")
			f.BoolVar(&follow, "follow", false, "of log: go on with what is logged from now on, for the time of --for")
			f.DurationVar(&length, "for", time.Minute, "how long the answer may take, and a log or a trace is followed; 10m at most. Ctrl-C ends it earlier")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			q := api.Question{Kind: c.Args[1], Args: map[string]string{}, For: length.String()}
			rest := c.Args[2:]
			names := map[string][]string{"why": {"device"}, "read": {"device", "point"}, "trace": {"connection"}}[q.Kind]
			if len(rest) > len(names) || len(rest) == 0 && len(names) == 1 {
				return settings.Usagef("langbiang-hub edges ask EDGE doctor|status|why DEVICE|read [DEVICE [POINT]]|log|trace CONNECTION")
			}
			for i, value := range rest {
				q.Args[names[i]] = value
			}
			for name, value := range map[string]string{"level": level, "match": match} {
				if value != "" {
					q.Args[name] = value
				}
			}
			if lines > 0 {
				q.Args["lines"] = strconv.Itoa(lines)
			}
			if since > 0 {
				q.Args["since"] = since.String()
			}
			if follow {
				q.Args["follow"] = "true"
			}
			return askEdge(ctx, plan, c.Args[0], &q, c.Stdout, c.Stderr)
		},
	}
}

// askEdge asks through the running hub, and shows the answer as it comes.
func askEdge(ctx context.Context, plan *Plan, edge string, q *api.Question, stdout, stderr io.Writer) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, consoleURL+"/api/v1/edges/"+url.PathEscape(edge)+"/ask", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := plan.console().Do(req)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return plan.unreached(err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	if resp.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if err != nil {
			return err
		}
		var problem struct{ Detail string }
		if json.Unmarshal(data, &problem) != nil || problem.Detail == "" {
			return fmt.Errorf("the hub answered %s", resp.Status)
		}
		return errors.New(problem.Detail)
	}
	answer := json.NewDecoder(resp.Body)
	for {
		var l api.AnswerLine
		switch err := answer.Decode(&l); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("the hub ended before the answer was whole: %w", err)
		}
		if _, err := io.WriteString(stdout, l.Text); err != nil {
			return err
		}
		if l.Answered == nil {
			continue
		}
		_, _ = fmt.Fprintln(stderr, cost(l.Answered))
		switch {
		case l.Error != "":
			return errors.New(l.Error)
		case l.Answered.Failed != "":
			return errors.New(l.Answered.Failed)
		}
		return nil
	}
}

// cost says how long an answer took and what it cost.
func cost(a *api.Answered) string {
	text := fmt.Sprintf("# answered in %v: %s, %s on the link", (time.Duration(a.TookMS) * time.Millisecond).Round(100*time.Millisecond), settings.Count(a.Messages, "message"), doctor.Size(a.Bytes))
	if a.Metered {
		text += ", which is metered"
	}
	if a.Truncated {
		text += "; it was longer than an answer may be, and is cut"
	}
	return text
}
