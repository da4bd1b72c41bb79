// Package client reads the alerts of a Langbiang hub and never misses one.
//
//	c := client.Client{URL: "http://127.0.0.1:8080"}
//	err := c.Follow(ctx, client.Options{Positions: client.File("alerts.position")}, func(e client.Event) error {
//		entry, ok, err := e.Entry()
//		if err != nil || !ok {
//			return err // ok is false for hello, heartbeats and notices
//		}
//		return store(entry)
//	})
//
// Follow goes on after the position that [Positions] keeps, connects again after
// every loss, by a restart of either side, too, and saves the position after the
// handler has returned. So each entry comes at least once and in order; one that
// was handled just before a crash comes again, with the same [Event] ID.
//
// When entries cannot be given (they are older than the hub keeps, or the hub was
// restored from a backup) the handler gets an event of type [feed.TypeTrimmed] or
// [feed.TypeGeneration] before what follows: read the list anew then.
//
// A [Client] is safe for concurrent use.
package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// Event is a CloudEvents envelope: an entry of the alert log, or what the hub
// tells the consumer, see its Type.
type Event = feed.Event

// Client is a hub's API. The zero value needs a URL.
type Client struct {
	URL string // of the hub: http://host:port
	// HTTP makes the requests; it must have no Timeout, which would end the stream.
	// Nil: one that gives up connecting after 10 s.
	HTTP *http.Client
	// Header is added to every request, for example an Authorization. May be nil.
	Header http.Header
}

// Options of [Client.Follow].
type Options struct {
	Site, Group, Rule []string // empty: all
	Severity          []alert.Severity
	State             alert.State
	Positions         Positions // nil: kept while Follow runs only
	// FromOldest begins at the oldest entry when there is no position yet; else it
	// begins with what is new.
	FromOldest bool
	// Silence is how long the stream may say nothing before it is taken for dead;
	// 45 s when zero. The hub has a heartbeat of 15 s.
	Silence time.Duration
	// MaxBackoff bounds the time between attempts to connect; 30 s when zero.
	MaxBackoff time.Duration
	// OnError is told why the stream broke, before it is opened again. May be nil.
	OnError func(error)
}

// Positions keeps where a consumer is, durably.
type Positions interface {
	// Load returns the position that was saved last, "" when none was.
	Load() (string, error)
	// Save returns once the position is kept.
	Save(position string) error
}

// File keeps a position in a file, replaced as a whole at each Save.
func File(path string) Positions { return file(path) }

type file string

func (f file) Load() (string, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

func (f file) Save(position string) error {
	tmp, err := os.CreateTemp(filepath.Dir(string(f)), filepath.Base(string(f))+".*")
	if err != nil {
		return err
	}
	_, err = io.WriteString(tmp, position+"\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), string(f))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// ErrRefused is in the error of Follow when the hub answers that the request
// itself is wrong: trying again would not help.
var ErrRefused = errors.New("the hub refuses the request")

// maxLine bounds one event.
const maxLine = 4 << 20

// Follow calls handle for every event, one after another, until ctx ends, handle
// or Positions fail, or the hub refuses the request ([ErrRefused]). It returns
// nil when ctx ended.
func (c *Client) Follow(ctx context.Context, o Options, handle func(Event) error) error {
	last := ""
	if o.Positions != nil {
		var err error
		if last, err = o.Positions.Load(); err != nil {
			return fmt.Errorf("position: %w", err)
		}
	}
	if last == "" && o.FromOldest {
		last = "0"
	}
	const least = 250 * time.Millisecond
	pause := least
	for {
		before := last
		err := c.once(ctx, &o, &last, handle)
		var own *handlerError
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to end
		case errors.As(err, &own):
			return own.err
		case errors.Is(err, ErrRefused):
			return err
		}
		if o.OnError != nil {
			o.OnError(err)
		}
		if last != before {
			pause = least
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		most := o.MaxBackoff
		if most <= 0 {
			most = 30 * time.Second
		}
		pause = min(2*pause, most)
	}
}

// handlerError marks an error that is the caller's.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

func (o *Options) query(after string) url.Values {
	q := url.Values{}
	set := func(name string, words []string) {
		if len(words) > 0 {
			q.Set(name, strings.Join(words, ","))
		}
	}
	set("site", o.Site)
	set("group", o.Group)
	set("rule", o.Rule)
	var severities []string
	for _, s := range o.Severity {
		severities = append(severities, s.String())
	}
	set("severity", severities)
	if o.State != "" {
		q.Set("state", string(o.State))
	}
	if after != "" {
		q.Set("after", after)
	}
	return q
}

// once reads the stream until it breaks.
func (c *Client) once(ctx context.Context, o *Options, last *string, handle func(Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := o.Silence
	if silence <= 0 {
		silence = 45 * time.Second
	}
	watch := time.AfterFunc(silence, func() { cancel(fmt.Errorf("the hub has said nothing for %s", silence)) })
	defer watch.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(c.URL, "/")+"/api/v1/alerts/stream?"+o.query(*last).Encode(), http.NoBody)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	for name, values := range c.Header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/x-ndjson")
	hc := c.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	resp, err := hc.Do(req)
	if err != nil {
		return because(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		err := fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
		if resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		watch.Reset(silence)
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("a line of the stream is no event: %w", err)
		}
		watch.Stop() // the handler may take its time
		if err := handle(e); err != nil {
			return &handlerError{err}
		}
		watch.Reset(silence)
		if at := positionOf(&e); at != "" && at != *last {
			if o.Positions != nil {
				if err := o.Positions.Save(at); err != nil {
					return &handlerError{fmt.Errorf("position: %w", err)}
				}
			}
			*last = at
		}
	}
	if err := lines.Err(); err != nil {
		return because(ctx, err)
	}
	return io.ErrUnexpectedEOF
}

// because prefers the reason for which the context ended.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// positionOf is where the consumer is after the event, "" when it says nothing
// of that.
func positionOf(e *Event) string {
	if strings.HasPrefix(e.Type, feed.TypeAlert) {
		return e.ID
	}
	var told feed.Told
	if (e.Type == feed.TypeHello || e.Type == feed.TypeHeartbeat) && json.Unmarshal(e.Data, &told) == nil && told.Generation != "" {
		return feed.Position{Generation: told.Generation, Sequence: told.Sequence}.String()
	}
	return ""
}
