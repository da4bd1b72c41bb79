package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/doctor"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/questions"
)

// What a running agent tells people, in the words of the commands on the gateway: over
// the socket (GET /ask), and, unless hub.remote says off, to those who ask from the
// hub. Nothing of it changes anything, which is why the hub may ask it at all.

// remoteOn and remoteOff are the values of hub.remote.
const (
	remoteOn  = "on"
	remoteOff = "off"
)

// told is one kind of question.
type told struct {
	args []string // names of its arguments
	tell func(ctx context.Context, w io.Writer, a *Agent, args map[string]string) error
}

// kinds are the questions that an agent answers.
func kinds() map[string]told {
	return map[string]told{
		"doctor": {nil, tellDoctor},
		"status": {nil, tellStatus},
		"why":    {[]string{"device"}, tellWhy},
		"read":   {[]string{"device", "point"}, tellReadings},
		"log":    {[]string{"lines", "level", "since", "match", "follow"}, tellLog},
		"trace":  {[]string{"connection"}, tellTrace},
	}
}

// tell answers a question until that is done or ctx ends. Its signature is that of
// [questions.Tell].
func (a *Agent) tell(ctx context.Context, w io.Writer, kind string, args map[string]string) error {
	k, ok := kinds()[kind]
	if !ok {
		return questions.Refusal(fmt.Sprintf("there is no question %.40q here; this agent (version %s) answers doctor, status, why, read, log and trace", kind, a.version))
	}
	for name := range args {
		if !slices.Contains(k.args, name) {
			return questions.Refusal(fmt.Sprintf("%s takes no %.40q; %s", kind, name, strictyaml.Meant(name, k.args)))
		}
	}
	err := k.tell(ctx, w, a, args)
	if errors.Is(err, settings.ErrUsage) {
		return questions.Refusal(err.Error())
	}
	return err
}

func tellDoctor(ctx context.Context, w io.Writer, a *Agent, _ map[string]string) error {
	// What does not change under a running agent is as it was started.
	plan := *a.now.Load()
	plan.Config = a.plan.Config
	d := diagnosis{doctor.NewReport(w)}
	d.examine(ctx, &plan, a.version, func(context.Context) (status, error) { return a.status(""), nil })
	return d.End()
}

func tellStatus(_ context.Context, w io.Writer, a *Agent, _ map[string]string) error {
	s := a.status("")
	return printStatus(w, &s, time.Now())
}

func tellWhy(_ context.Context, w io.Writer, a *Agent, args map[string]string) error {
	id := args["device"]
	if err := a.now.Load().knownDevice(id); err != nil {
		return err
	}
	s := a.status("")
	return tellSteps(w, &s, id)
}

func tellReadings(_ context.Context, w io.Writer, a *Agent, args map[string]string) error {
	device := args["device"]
	if device != "" {
		if err := a.now.Load().knownDevice(device); err != nil {
			return err
		}
	}
	s := a.status(device)
	if err := narrow(&s, device, args["point"]); err != nil {
		return err
	}
	return printReadings(w, &s, s.now())
}

// Bounds of what is told of the log.
const (
	defaultLogLines = 200
	maxLogLines     = 5000
)

func tellLog(ctx context.Context, w io.Writer, a *Agent, args map[string]string) error {
	lines, follow, f, err := logArgs(args)
	if err != nil {
		return err
	}
	text, next := a.ring.last(lines, &f)
	if text == "" && !follow {
		n, since := a.ring.kept()
		text = fmt.Sprintf("no such line among the %d that are kept, the oldest from %s\n", n, since.Format(time.RFC3339))
	}
	for {
		if text != "" {
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		var more <-chan struct{}
		if text, next, more = a.ring.after(next, &f); text != "" {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// logArgs reads what is wanted of the log.
func logArgs(args map[string]string) (lines int, follow bool, f logFilter, err error) {
	lines, f.level = defaultLogLines, slog.LevelDebug
	if text := args["lines"]; text != "" {
		if lines, err = strconv.Atoi(text); err != nil || lines < 0 || lines > maxLogLines {
			return 0, false, f, settings.Usagef("lines is %.40q; it must be a number from 0 to %d", text, maxLogLines)
		}
	}
	if text := args["level"]; text != "" {
		if err := f.level.UnmarshalText([]byte(text)); err != nil {
			return 0, false, f, settings.Usagef("level is %.40q; it is one of debug, info, warn, error", text)
		}
	}
	if text := args["since"]; text != "" {
		d, err := strictyaml.ParseDuration(text)
		if err != nil {
			return 0, false, f, settings.Usagef("since is %.40q; write how long ago, as 30m or 2h", text)
		}
		f.since = time.Now().Add(-d)
	}
	if text := args["follow"]; text != "" {
		if follow, err = strconv.ParseBool(text); err != nil {
			return 0, false, f, settings.Usagef("follow is %.40q; it is true or false", text)
		}
	}
	f.match = strings.ToLower(args["match"])
	return lines, follow, f, nil
}

func tellTrace(ctx context.Context, w io.Writer, a *Agent, args map[string]string) error {
	id := args["connection"]
	plan := a.now.Load()
	if plan.connection(id) == nil {
		return plan.noConnection(id)
	}
	a.driversMu.Lock()
	t, ok := a.drivers[id].(driver.Tracer)
	a.driversMu.Unlock()
	if !ok {
		return settings.Usagef("connection %q cannot be watched", id)
	}
	watched := watchConnection(t)
	defer watched.end()
	return watched.show(ctx, func(x *driver.Exchange, missed int) error { return printExchange(w, x, missed) })
}

// serveAsk answers a question on the socket.
func (a *Agent) serveAsk(w http.ResponseWriter, r *http.Request) {
	kind, args := "", map[string]string{}
	for name, values := range r.URL.Query() {
		if name == "kind" {
			kind = values[0]
		} else {
			args[name] = values[0]
		}
	}
	out := &flushed{w: w}
	if err := a.tell(r.Context(), out, kind, args); err != nil && !out.begun {
		answer(w, nil, err)
	}
}

// flushed sends what is written at once.
type flushed struct {
	w     http.ResponseWriter
	begun bool
}

func (o *flushed) Write(p []byte) (int, error) {
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	n, err := o.w.Write(p)
	_ = http.NewResponseController(o.w).Flush() // an onlooker that has gone is met at the next line
	return n, err
}
