package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// EdgeConfigs are what edges are to run, and what they run. Safe for concurrent use.
// Their refusals are [*Refusal] and [*Faulty].
type EdgeConfigs interface {
	// Config returns how it stands with an edge, with the document that it is to run, or
	// that of a version when it is not 0.
	Config(edge string, version uint64) (EdgeConfig, error)
	History(edge string) []ConfigVersion
	// SetConfig judges a document and makes it what the edge is to run; with DryRun it
	// only judges.
	SetConfig(edge string, c ConfigChange) (ConfigResult, error)
	// ClearConfig says that nothing is wanted of the edge any more.
	ClearConfig(edge string, c ConfigChange) error
	// RunningConfig asks the edge for what it has.
	RunningConfig(ctx context.Context, edge string) (RunningConfig, error)
	// AdoptConfig makes that what the edge is to run.
	AdoptConfig(ctx context.Context, edge string, c ConfigChange) (ConfigResult, error)
}

// ConfigStatus is how it stands between what an edge is to run and what it runs.
type ConfigStatus struct {
	State   string `json:"state"`            // none, gateway, waiting, trial, in_step, refused, rolled_back, drift, unknown
	Owner   string `json:"owner"`            // gateway or hub, as the edge says; "": it has said nothing
	Desired uint64 `json:"desired_version"`  // 0: nothing is wanted
	Running uint64 `json:"running_version"`  // of the hub's that runs; 0: the gateway's own
	Detail  string `json:"detail,omitempty"` // for people
}

// EdgeConfig is that of one edge, with a document.
type EdgeConfig struct {
	Edge string `json:"edge"`
	ConfigStatus
	// Current is the number of the newest act, to be sent back in If-Match.
	Current  uint64         `json:"current"`
	Said     *time.Time     `json:"said"`     // when the edge said it last
	Version  *ConfigVersion `json:"version"`  // that the document is of; null: nothing is wanted
	Document string         `json:"document"` // YAML
}

// ConfigVersion is one act of somebody.
type ConfigVersion struct {
	Version uint64    `json:"version"`
	Name    string    `json:"name,omitempty"` // of the file
	Hash    string    `json:"hash,omitempty"`
	Bytes   int       `json:"bytes,omitempty"`
	Who     string    `json:"who"`
	Why     string    `json:"why,omitempty"`
	At      time.Time `json:"at"`
	Cleared bool      `json:"cleared,omitempty"` // nothing is wanted from then on
}

// ConfigChange is what somebody wants.
type ConfigChange struct {
	Document string `json:"document"`
	Name     string `json:"name"` // of the file, for the places of faults
	Who      string `json:"who"`
	Why      string `json:"why"`

	DryRun bool    `json:"-"`
	If     *uint64 `json:"-"` // of If-Match
	Any    bool    `json:"-"` // If-Match: *, whatever stands
}

// ConfigResult is what came of it.
type ConfigResult struct {
	Edge        string  `json:"edge"`
	Version     uint64  `json:"version"` // 0: of a dry run
	Changed     bool    `json:"changed"` // false: that is what it was to run before
	Connections int     `json:"connections"`
	Devices     int     `json:"devices"`
	Points      int     `json:"points"`
	Warnings    []Fault `json:"warnings"`
	State       string  `json:"state"`
	Detail      string  `json:"detail,omitempty"`
}

// RunningConfig is what an edge has.
type RunningConfig struct {
	Edge     string `json:"edge"`
	Version  uint64 `json:"version"` // of the hub's; 0: the gateway's own
	Name     string `json:"name"`
	Document string `json:"document"`
}

// Faulty refuses a document, with the place of every fault.
type Faulty struct{ Faults []Fault }

func (f *Faulty) Error() string { return fmt.Sprintf("the document has %d faults", len(f.Faults)) }

// maxConfigBody bounds a body with a document: what is kept of one, and its escapes.
const maxConfigBody = 768 << 10

// askEdge is how long an edge may take to show what it has.
const askEdge = 30 * time.Second

func (h *Handler) mountEdgeConfigs() {
	if h.cfg.Configs == nil {
		return
	}
	of := func(f func(w http.ResponseWriter, r *http.Request, edge string)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			id := r.PathValue("id")
			if !h.seesEdge(r, id, "") {
				h.problem(w, r, http.StatusForbidden, "beyond your sites", "the edge does not stand at one of your sites")
				return
			}
			f(w, r, id)
		}
	}
	h.handle("GET /api/v1/edges/{id}/config", of(h.getConfig))
	h.handle("PUT /api/v1/edges/{id}/config", of(h.putConfig))
	h.handle("DELETE /api/v1/edges/{id}/config", of(h.deleteConfig))
	h.handle("GET /api/v1/edges/{id}/config/history", of(func(w http.ResponseWriter, r *http.Request, edge string) {
		if h.allow(w, r, "limit", "cursor") {
			list(h, w, r, h.cfg.Configs.History(edge), func(v ConfigVersion) string { return fmt.Sprintf("%020d", ^v.Version) }, func(ConfigVersion) bool { return true })
		}
	}))
	h.handle("GET /api/v1/edges/{id}/config/running", of(func(w http.ResponseWriter, r *http.Request, edge string) {
		if !h.allow(w, r) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), askEdge)
		defer cancel()
		out, err := h.cfg.Configs.RunningConfig(ctx, edge)
		if err != nil {
			h.configRefusal(w, r, err)
			return
		}
		h.json(w, r, out)
	}))
	h.handle("POST /api/v1/edges/{id}/config/adopt", of(h.adoptConfig))
}

// ifMatch reads the number that somebody has seen.
func (h *Handler) ifMatch(w http.ResponseWriter, r *http.Request, c *ConfigChange) bool {
	tag := r.Header.Get("If-Match")
	if c.Any = tag == "*"; tag == "" || c.Any {
		return true
	}
	n, err := strconv.ParseUint(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`), 10, 64)
	if err != nil {
		h.problem(w, r, http.StatusBadRequest, "bad If-Match", fmt.Sprintf("it is %.40q; send back the ETag of GET, such as \"7\"", tag))
		return false
	}
	c.If = &n
	return true
}

func (h *Handler) getConfig(w http.ResponseWriter, r *http.Request, edge string) {
	if !h.allow(w, r, "version") {
		return
	}
	version := uint64(0)
	if text := r.URL.Query().Get("version"); text != "" {
		var err error
		if version, err = strconv.ParseUint(text, 10, 64); err != nil || version == 0 {
			h.problem(w, r, http.StatusBadRequest, "bad version", fmt.Sprintf("version is %.40q; it is a number from 1", text))
			return
		}
	}
	out, err := h.cfg.Configs.Config(edge, version)
	if err != nil {
		h.configRefusal(w, r, err)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, out.Current))
	h.json(w, r, out)
}

func (h *Handler) putConfig(w http.ResponseWriter, r *http.Request, edge string) {
	var c ConfigChange
	if !h.allow(w, r, "dry_run") || !h.ifMatch(w, r, &c) || !h.bodyWithin(w, r, &c, maxConfigBody) {
		return
	}
	switch v := r.URL.Query().Get("dry_run"); v {
	case "", "false":
	case "true":
		c.DryRun = true
	default:
		h.problem(w, r, http.StatusBadRequest, "bad dry_run", fmt.Sprintf("dry_run is %.40q; write true or false", v))
		return
	}
	c.Who = actor(r, c.Who)
	if c.DryRun {
		acting(w, "dry run")
	}
	out, err := h.cfg.Configs.SetConfig(edge, c)
	h.configResult(w, r, out, err)
}

func (h *Handler) adoptConfig(w http.ResponseWriter, r *http.Request, edge string) {
	var s signed
	var c ConfigChange
	if !h.allow(w, r) || !h.ifMatch(w, r, &c) || !h.body(w, r, &s) {
		return
	}
	c.Who, c.Why = actor(r, s.Who), s.Why
	ctx, cancel := context.WithTimeout(r.Context(), askEdge)
	defer cancel()
	out, err := h.cfg.Configs.AdoptConfig(ctx, edge, c)
	h.configResult(w, r, out, err)
}

func (h *Handler) configResult(w http.ResponseWriter, r *http.Request, out ConfigResult, err error) {
	if err != nil {
		h.configRefusal(w, r, err)
		return
	}
	if out.Version != 0 {
		acting(w, fmt.Sprintf("version %d", out.Version))
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, out.Version))
	}
	h.json(w, r, out)
}

func (h *Handler) deleteConfig(w http.ResponseWriter, r *http.Request, edge string) {
	var c ConfigChange
	if !h.allow(w, r, "who", "why") || !h.ifMatch(w, r, &c) {
		return
	}
	q := r.URL.Query()
	c.Who, c.Why = actor(r, q.Get("who")), q.Get("why")
	if err := h.cfg.Configs.ClearConfig(edge, c); err != nil {
		h.configRefusal(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) configRefusal(w http.ResponseWriter, r *http.Request, err error) {
	var f *Faulty
	if !errors.As(err, &f) {
		h.refusal(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	h.encode(w, r, map[string]any{
		"type": "about:blank", "title": "a configuration with mistakes", "status": http.StatusUnprocessableEntity, "instance": r.URL.Path,
		"detail": "nothing was changed; mend the document and send it again", "faults": f.Faults,
	})
}

// FaultsOf lists faults as the API tells them.
func FaultsOf(errs strictyaml.Errors) []Fault {
	out := make([]Fault, len(errs))
	for i, e := range errs {
		out[i] = Fault{File: e.File, Line: e.Line, Column: e.Col, Message: e.Error()}
	}
	return out
}
