package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// Bounds of a trace: exchanges that wait for a slow onlooker, bytes shown of one,
// and its length.
const (
	maxTraced     = 1024
	maxTraceBytes = 512
	maxTrace      = time.Hour
)

// watch is what an onlooker of a driver has still to see.
type watch struct {
	exchanges chan *driver.Exchange
	missed    atomic.Int64 // left out since the last one shown
	end       func()
}

// watchConnection keeps every exchange of a driver from now on until end is called.
// What a slow onlooker cannot take is left out and counted.
func watchConnection(t driver.Tracer) *watch {
	w := &watch{exchanges: make(chan *driver.Exchange, maxTraced)}
	w.end = t.Trace(func(x *driver.Exchange) {
		y := *x
		y.Sent, y.Got = slices.Clone(x.Sent[:min(len(x.Sent), maxTraceBytes)]), slices.Clone(x.Got[:min(len(x.Got), maxTraceBytes)])
		select {
		case w.exchanges <- &y:
		default:
			w.missed.Add(1)
		}
	})
	return w
}

// show hands the exchanges over until ctx ends.
func (w *watch) show(ctx context.Context, show func(x *driver.Exchange, missed int) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-w.exchanges:
			if err := show(x, int(w.missed.Swap(0))); err != nil {
				return err
			}
		}
	}
}

// traced is one line of the agent's answer.
type traced struct {
	driver.Exchange
	Missed int `json:"missed,omitempty"` // left out before it
}

// serveTrace streams the exchanges of a connection as JSON lines.
func (a *Agent) serveTrace(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("connection")
	a.driversMu.Lock()
	t, ok := a.drivers[id].(driver.Tracer)
	a.driversMu.Unlock()
	if !ok {
		answer(w, nil, fmt.Errorf("connection %q cannot be watched", id))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxTrace)
	defer cancel()
	watched := watchConnection(t)
	defer watched.end()
	w.Header().Set("Content-Type", "application/x-ndjson")
	flusher := http.NewResponseController(w)
	_ = flusher.Flush() // an onlooker that has gone is met at the next line
	lines := json.NewEncoder(w)
	_ = watched.show(ctx, func(x *driver.Exchange, missed int) error {
		return errors.Join(lines.Encode(traced{*x, missed}), flusher.Flush())
	})
}

func traceCommand() settings.Command[*Plan] {
	var length time.Duration
	return settings.Command[*Plan]{
		Use: "trace CONNECTION", Short: "show what goes over a connection: frames in hex with timing and meaning, or messages",
		Args: cobra.ExactArgs(1),
		Flags: func(f *pflag.FlagSet) {
			f.DurationVar(&length, "for", time.Minute, "how long, at most 1h; Ctrl-C ends it earlier")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			id := c.Args[0]
			cn := plan.connection(id)
			if cn == nil {
				return plan.noConnection(id)
			}
			if length <= 0 || length > maxTrace {
				return settings.Usagef("--for %v is not between 1s and %v", length, maxTrace)
			}
			ctx, cancel := context.WithTimeout(ctx, length)
			defer cancel()
			show := func(x *driver.Exchange, missed int) error { return printExchange(c.Stdout, x, missed) }
			err := followTrace(ctx, plan.Config.DataDir, id, show)
			if errors.Is(err, errNotRunning) {
				err = traceDirectly(ctx, cn, show)
			}
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
}

// noConnection refuses a name that the configuration does not have.
func (p *Plan) noConnection(id string) error {
	var ids []string
	for i := range p.Connections {
		ids = append(ids, p.Connections[i].ID)
	}
	return settings.Usagef("there is no connection %q; %s", id, strictyaml.Meant(id, ids))
}

// followTrace watches through the running agent.
func followTrace(ctx context.Context, dataDir, id string, show func(*driver.Exchange, int) error) error {
	body, err := askStream(ctx, dataDir, "/trace", url.Values{"connection": {id}})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // read to its end
	lines := json.NewDecoder(body)
	for {
		var x traced
		if err := lines.Decode(&x); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the agent ended the trace")
			}
			return err
		}
		if err := show(&x.Exchange, x.Missed); err != nil {
			return err
		}
	}
}

// traceDirectly reads the devices of the connection without an agent, and watches.
func traceDirectly(ctx context.Context, cn *Connection, show func(*driver.Exchange, int) error) error {
	if len(cn.Devices) == 0 {
		return fmt.Errorf("no device is on connection %s, so nothing goes over it", cn.ID)
	}
	drv, err := cn.Source.New(cn.ID, cn.Devices, directEnv(newDirectReading(cn.Devices)))
	if err != nil {
		return fmt.Errorf("connection %s: %w", cn.ID, err)
	}
	t, ok := drv.(driver.Tracer)
	if !ok {
		return fmt.Errorf("connection %s (%s) cannot be watched", cn.ID, cn.Source.Kind())
	}
	watched := watchConnection(t) // before the first exchange: what is refused is not asked again soon
	defer watched.end()
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = drv.Run(running) }) // what it cannot do is seen
	err = watched.show(ctx, show)
	stop()
	wg.Wait()
	return err
}

func printExchange(w io.Writer, x *driver.Exchange, missed int) error {
	var b strings.Builder
	if missed > 0 {
		fmt.Fprintf(&b, "... %d left out\n", missed)
	}
	fmt.Fprintf(&b, "%s  %s", x.At.Local().Format("15:04:05.000"), x.Meaning)
	if x.Took > 0 {
		fmt.Fprintf(&b, "  (%v)", x.Took.Round(100*time.Microsecond))
	}
	b.WriteByte('\n')
	if len(x.Sent) > 0 {
		fmt.Fprintf(&b, "    > % X\n", x.Sent)
	}
	switch {
	case len(x.Got) == 0:
	case len(x.Sent) == 0 && utf8.Valid(x.Got): // a message
		fmt.Fprintf(&b, "    < %s\n", strings.ReplaceAll(string(x.Got), "\n", " "))
	default:
		fmt.Fprintf(&b, "    < % X\n", x.Got)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
