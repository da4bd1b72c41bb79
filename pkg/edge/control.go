package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// A running agent can be asked by the commands of a technician: HTTP with JSON on
// a socket in its data folder, for those who may write there.
//
//	GET  /status?device=ID   the [status]; without a device of all of them
//	POST /reload             the configuration is read anew: [Reloaded]
//	POST /maintain?device=ID&for=30m   the time at which it ends
//	GET  /hardware?device=ID   what it has been: [Replaced]
//	POST /hardware?device=ID&serial=S&note=N&at=T   it is other hardware now
//	GET  /trace?connection=ID   its exchanges as JSON lines, until the other side goes
//	GET  /ask?kind=K&...   what people are told, as text, see tell.go
//	POST /page?for=30m&listen=A   the status page is opened: [pageOpened]
//	POST /page/close         and closed
//	POST /write?device=ID&point=ID&value=V   [written]
//
// What it refuses it answers with 422 and the reason as text.

// socketName is the socket's name in the data folder.
const socketName = "agent.sock"

// errNotRunning says that no agent works on the data folder.
var errNotRunning = errors.New("no agent is running on this data folder")

// serveControl answers on the socket until ctx ends.
func (a *Agent) serveControl(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, a.status(r.URL.Query().Get("device")), nil)
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		out, err := a.Reload(r.Context())
		answer(w, out, err)
	})
	mux.HandleFunc("POST /maintain", func(w http.ResponseWriter, r *http.Request) {
		length, err := time.ParseDuration(r.URL.Query().Get("for"))
		if err != nil {
			answer(w, nil, err)
			return
		}
		until, err := a.Maintain(r.URL.Query().Get("device"), length)
		answer(w, until, err)
	})
	mux.HandleFunc("GET /hardware", func(w http.ResponseWriter, r *http.Request) {
		answer(w, Replaced{Hardware: a.hardware.of(r.URL.Query().Get("device"))}, nil)
	})
	mux.HandleFunc("POST /hardware", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		at, err := time.Time{}, error(nil)
		if text := q.Get("at"); text != "" {
			at, err = time.Parse(time.RFC3339, text)
		}
		if err != nil {
			answer(w, nil, err)
			return
		}
		out, err := a.Replace(r.Context(), q.Get("device"), q.Get("serial"), q.Get("note"), at)
		answer(w, out, err)
	})
	mux.HandleFunc("GET /trace", a.serveTrace)
	mux.HandleFunc("GET /ask", a.serveAsk)
	mux.HandleFunc("POST /write", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		out, err := a.Write(r.Context(), q.Get("device"), q.Get("point"), q.Get("value"))
		answer(w, asWritten(out), err)
	})
	page := &statusPage{agent: a}
	defer page.shut()
	mux.HandleFunc("POST /page", func(w http.ResponseWriter, r *http.Request) {
		length, err := time.ParseDuration(r.URL.Query().Get("for"))
		if err != nil {
			answer(w, nil, err)
			return
		}
		out, err := page.open(ctx, r.URL.Query().Get("listen"), length)
		answer(w, out, err)
	})
	mux.HandleFunc("POST /page/close", func(w http.ResponseWriter, _ *http.Request) {
		page.shut()
		answer(w, true, nil)
	})
	return serveUntil(ctx, a.control, mux)
}

// answer writes v, or why there is none.
func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// askTimeout bounds a question to a running agent. A reload waits for drivers that
// are in the middle of a request.
const askTimeout = 60 * time.Second

// maxAnswer bounds its answer.
const maxAnswer = 64 << 20

// refused is what an agent does not do, in its own words.
type refused string

func (r refused) Error() string { return string(r) }

// ask puts a question to the agent that runs on the data folder and decodes the
// answer into v. It fails with errNotRunning when there is none, and with refused.
func ask(ctx context.Context, dataDir, path string, query url.Values, v any) error {
	return askAgent(ctx, http.MethodGet, dataDir, path, query, v)
}

// order is ask for what changes something.
func order(ctx context.Context, dataDir, path string, query url.Values, v any) error {
	return askAgent(ctx, http.MethodPost, dataDir, path, query, v)
}

func askAgent(ctx context.Context, method, dataDir, path string, query url.Values, v any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := request(ctx, method, dataDir, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // read to the end by then
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("the answer of the agent on %s: %w", dataDir, err)
	}
	return nil
}

// askStream is ask for an answer without an end; the caller closes it.
func askStream(ctx context.Context, dataDir, path string, query url.Values) (io.ReadCloser, error) {
	return request(ctx, http.MethodGet, dataDir, path, query)
}

func request(ctx context.Context, method, dataDir, path string, query url.Values) (io.ReadCloser, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return settings.DialControl(ctx, filepath.Join(dataDir, socketName))
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, errNotRunning
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the agent on %s may not be asked by this user; run this command as the agent's user or as root", dataDir)
	case err != nil:
		return nil, fmt.Errorf("the agent on %s: %w", dataDir, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusUnprocessableEntity:
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		_ = resp.Body.Close() // read to the end
		if err != nil {
			return nil, fmt.Errorf("the answer of the agent on %s: %w", dataDir, err)
		}
		return nil, refused(strings.TrimSpace(string(text)))
	}
	_ = resp.Body.Close() // nothing in it is for us
	return nil, fmt.Errorf("the agent on %s answers %s; is it of another version?", dataDir, resp.Status)
}
