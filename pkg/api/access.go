package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Role is what somebody may do.
type Role string

// The roles, least first; each may do what those before it may. RoleSource is apart:
// a machine that pushes data, and may do that alone. Anyone needs no role.
const (
	Anyone     Role = ""
	Viewer     Role = "viewer"
	Operator   Role = "operator"
	Technician Role = "technician"
	Admin      Role = "admin"
	RoleSource Role = "source"
	// Console is no role of people: the hub's own machine, for what reaches beyond the
	// hub itself.
	Console Role = "console"
)

var ladder = []Role{Viewer, Operator, Technician, Admin}

// may reports whether somebody of role r may do what needs the other.
func (r Role) may(needs Role) bool {
	at := slices.Index(ladder, needs)
	return at >= 0 && slices.Index(ladder, r) >= at
}

// Who is somebody who asks.
type Who struct {
	Name     string
	Role     Role
	Groups   []string // of sites; empty: all
	Source   string   // of RoleSource: what it pushes for
	Language string
	Token    bool // a machine
	Console  bool // on the hub's own machine, through its socket
	// Sees says whether they may see what stands at a site; nil: every site.
	Sees func(site string) bool
}

// Identify says who makes a request; nil, nil when it says nothing about that. An
// error is for what it says and what is not so. Safe for concurrent use.
type Identify func(r *http.Request) (*Who, error)

// Audit is told of every request that changes something, and what came of it.
type Audit func(r *http.Request, who *Who, act, target, result string)

// grant is what a route needs.
type grant struct {
	role  Role
	act   string // its name in the audit log; "": it changes nothing
	whole bool   // it reaches beyond sites: not for somebody of some of them
}

// everywhere makes a grant one for those of all sites.
func everywhere(role Role, act string) grant { return grant{role: role, act: act, whole: true} }

// grants is the table of all routes. One that is missing here cannot be mounted.
var grants = map[string]grant{
	"GET /healthz": {role: Anyone},
	"GET /readyz":  {role: Anyone},
	"GET /metrics": everywhere(Viewer, ""),
	"/api/":        {role: Viewer},
	"GET /api":     {role: Viewer},
	"GET /api/{$}": {role: Viewer},
	"/prometheus/": {role: Viewer},
	"/":            {role: Viewer},
	"GET /login":   {role: Anyone},
	"GET /login/":  {role: Anyone},

	"GET /api/v1/alerts":                   {role: Viewer},
	"GET /api/v1/alerts/{id}":              {role: Viewer},
	"GET /api/v1/alerts/{id}/entries":      {role: Viewer},
	"GET /api/v1/alerts/stream":            {role: Viewer},
	"GET /api/v1/alerts/events":            {role: Viewer},
	"GET /api/v1/alerts/counts":            {role: Viewer},
	"GET /api/v1/alerts/groups":            {role: Viewer},
	"GET /api/v1/alerts/statistics":        {role: Viewer},
	"GET /api/v1/sites":                    {role: Viewer},
	"GET /api/v1/edges":                    {role: Viewer},
	"GET /api/v1/devices":                  {role: Viewer},
	"GET /api/v1/series":                   {role: Viewer},
	"GET /api/v1/rules":                    {role: Viewer},
	"GET /api/v1/rules/status":             {role: Viewer},
	"GET /api/v1/alerts/{id}/cap":          {role: Viewer},
	"GET /api/v1/cap":                      {role: Viewer},
	"GET /api/v1/deliveries":               everywhere(Operator, ""),
	"GET /api/v1/deliveries/dead":          everywhere(Operator, ""),
	"GET /api/v1/notices":                  everywhere(Operator, ""),
	"POST /api/v1/deliveries/{name}/skip":  everywhere(Technician, "delivery skip"),
	"POST /api/v1/deliveries/{name}/retry": everywhere(Technician, "delivery retry"),
	"POST /api/v1/deliveries/{name}/test":  everywhere(Technician, "delivery test"),
	"POST /api/v1/backup":                  everywhere(Console, "backup"),
	"POST /api/v1/rules/{id}/backtest":     everywhere(Operator, ""),
	"GET /api/v1/page":                     {role: Viewer},
	"GET /api/v1/page/outlines":            {role: Viewer},
	"GET /api/v1/store":                    {role: Viewer},
	"GET /api/v1/texts":                    {role: Viewer},
	"GET /api/v1/openapi.json":             {role: Viewer},
	"GET /api/v1/export":                   {role: Viewer},
	"GET /api/v1/holds":                    {role: Viewer},

	// Machines that push show the token of their source, which package push checks;
	// what they push stands in the metrics, not in the audit log.
	"POST /api/v2/write": {role: Anyone},
	"POST /write":        {role: Anyone},
	"POST /api/v1/push":  {role: Anyone},
	"GET /ping":          {role: Anyone},
	"GET /health":        {role: Anyone},

	"POST /api/v1/alerts/{id}/{act}": {role: Operator, act: "alert"},
	"POST /api/v1/alerts/acts":       {role: Operator, act: "alerts"},
	"POST /api/v1/holds":             {role: Operator, act: "hold"},
	"POST /api/v1/holds/{id}/end":    {role: Operator, act: "hold end"},

	"POST /api/v1/rules/{id}/test":   {role: Technician, act: "rule test"},
	"POST /api/v1/edges/tokens":      {role: Technician, act: "edge token"},
	"GET /api/v1/edges/certificates": {role: Technician},
	"POST /api/v1/edges/{id}/revoke": {role: Technician, act: "edge revoke"},
	"POST /api/v1/edges/{id}/ask":    {role: Technician, act: "edge ask"},
	"POST /api/v1/edges/{id}/forget": {role: Admin, act: "edge forget"},

	"GET /api/v1/edges/{id}/config":         {role: Technician},
	"PUT /api/v1/edges/{id}/config":         {role: Technician, act: "edge config set"},
	"DELETE /api/v1/edges/{id}/config":      {role: Technician, act: "edge config clear"},
	"GET /api/v1/edges/{id}/config/history": {role: Technician},
	"GET /api/v1/edges/{id}/config/running": {role: Technician},
	"POST /api/v1/edges/{id}/config/adopt":  {role: Technician, act: "edge config adopt"},

	"POST /api/v1/rules/reload":       everywhere(Admin, "rules reload"),
	"GET /api/v1/audit":               everywhere(Admin, ""),
	"GET /api/v1/users":               everywhere(Admin, ""),
	"PUT /api/v1/users/{name}":        everywhere(Admin, "user"),
	"DELETE /api/v1/users/{name}":     everywhere(Admin, "user remove"),
	"GET /api/v1/tokens":              everywhere(Admin, ""),
	"POST /api/v1/tokens":             everywhere(Admin, "token"),
	"DELETE /api/v1/tokens/{id}":      everywhere(Admin, "token remove"),
	"POST /api/v1/session/password":   {role: Viewer, act: "own password"},
	"GET /api/v1/session":             {role: Viewer},
	"POST /api/v1/session":            {role: Anyone, act: "login"},
	"DELETE /api/v1/session":          {role: Anyone, act: "logout"},
	"GET /api/v1/setup":               {role: Anyone},
	"POST /api/v1/setup":              {role: Anyone, act: "setup"},
	"POST /api/v1/enrol":              {role: Anyone, act: "enrol"},
	"POST /api/v1/enrol/renew":        {role: Anyone, act: "enrol renew"},
	"GET /api/v1/enrol/authority.pem": {role: Anyone},
}

type whoKey struct{}

// who is who asks; never nil within a handler whose route needs a role.
func who(r *http.Request) *Who {
	w, _ := r.Context().Value(whoKey{}).(*Who)
	return w
}

// WhoOf is who makes a request, for handlers that are mounted behind this package.
func WhoOf(r *http.Request) *Who { return who(r) }

// sees reports whether who asks may see what stands at a site.
func sees(r *http.Request, site string) bool {
	w := who(r)
	return w == nil || w.Sees == nil || w.Sees(site)
}

// WithWho makes a request one of somebody, whatever it says itself: for listeners that
// are their own proof, such as the socket in the hub's data folder.
func WithWho(ctx context.Context, w *Who) context.Context {
	return context.WithValue(ctx, whoKey{}, w)
}

// mount mounts a handler behind the table. A route that is missing in it is a mistake
// of the program, found by the first test that makes a Handler.
func (h *Handler) mount(pattern string, f http.HandlerFunc) {
	g, ok := grants[pattern]
	if !ok {
		panic("pkg/api/access.go: who may ask for " + pattern + "?")
	}
	h.mounted = append(h.mounted, pattern)
	h.mux.Handle(pattern, h.guard(g, f))
}

// guard lets through who may, and notes what they changed.
func (h *Handler) guard(g grant, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := who(r)
		if p == nil {
			var err error
			if p, err = h.identify(r); err != nil && g.role != Anyone {
				h.refuse(w, r, g, nil, http.StatusForbidden, "not here", err.Error())
				return
			}
		}
		switch {
		case g.role == Anyone:
		case p == nil && wantsPage(r):
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		case p == nil:
			w.Header().Set("WWW-Authenticate", `Bearer realm="langbiang"`)
			h.refuse(w, r, g, nil, http.StatusUnauthorized, "sign in first", "sign in at /login, or send a token: Authorization: Bearer lbt_...")
			return
		case g.role == Console && !p.Console:
			h.refuse(w, r, g, p, http.StatusForbidden, "from this machine only", "run the command on the hub's own machine")
			return
		case g.whole && p.Sees != nil:
			h.refuse(w, r, g, p, http.StatusForbidden, "beyond your sites", "this is for those of all sites")
			return
		case g.role != Console && !p.Role.may(g.role):
			h.refuse(w, r, g, p, http.StatusForbidden, "your role may not do this", fmt.Sprintf("it needs %s, and %s is %s", g.role, p.Name, p.Role))
			return
		}
		if p != nil {
			r = r.WithContext(WithWho(r.Context(), p))
		}
		if g.act == "" || h.cfg.Audit == nil {
			next(w, r)
			return
		}
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next(rec, r)
		if p == nil {
			p = &Who{Name: rec.who}
		} else if rec.who != "" && rec.who != p.Name {
			rec.target = rec.who
		}
		h.cfg.Audit(r, p, g.act, strings.TrimSpace(target(r)+" "+rec.target), rec.result())
	})
}

// identify says who makes a request that came through a listener for everybody.
func (h *Handler) identify(r *http.Request) (*Who, error) {
	if h.cfg.Identify != nil {
		return h.cfg.Identify(r)
	}
	return h.open(r)
}

var errNotLocal = errors.New("nobody signs in at this hub (http.auth: off), so it answers its own machine only, and no proxy; run the command or the browser there, or set http.auth: on")

// open lets the hub's own machine do everything, when nobody signs in. A proxy on this
// machine is no proof of that, and neither is a page of the internet whose name leads
// to this address.
func (h *Handler) open(r *http.Request) (*Who, error) {
	if !loopback(r.RemoteAddr) || !loopback(r.Host) || r.Header.Get("Forwarded") != "" || r.Header.Get("X-Forwarded-For") != "" {
		return nil, errNotLocal
	}
	return &Who{Name: "console", Role: Admin, Console: true}, nil
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, g grant, p *Who, status int, title, detail string) {
	if g.act != "" && h.cfg.Audit != nil {
		h.cfg.Audit(r, p, g.act, target(r), "refused: "+title)
	}
	h.problem(w, r, status, title, detail)
}

// wantsPage reports whether a browser asks for a page, and not a program for data.
func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/api/")
}

// target is what a request names: the variable parts of its path.
func target(r *http.Request) string {
	var parts []string
	for _, name := range []string{"id", "name", "act"} {
		if v := r.PathValue(name); v != "" {
			parts = append(parts, v)
		}
	}
	return strings.Join(parts, " ")
}

// acting notes who somebody turned out to be: after a login, or an enrolment.
func acting(w http.ResponseWriter, name string) {
	if rec, ok := w.(*recorder); ok {
		rec.who = name
	}
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	who    string // whose name turned up on the way
	target string
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) result() string {
	switch {
	case r.status >= 500:
		return fmt.Sprintf("failed: %d", r.status)
	case r.status >= 400:
		return fmt.Sprintf("refused: %d %s", r.status, http.StatusText(r.status))
	}
	return "done"
}
