package api

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Accounts is who may ask the hub. Safe for concurrent use; what changes something
// returns once it is on disk. Its refusals are [*Refusal].
type Accounts interface {
	// Login begins a session, for a name and password or for the token of a screen.
	Login(l Login, remote string) (secret string, who Who, until time.Time, err error)
	Logout(secret string) error
	// Password changes the password of somebody who knows the old one.
	Password(name, old, password, remote string) error
	Users() []User
	PutUser(u User, password, by string) error
	RemoveUser(name string) error
	Tokens() []Token
	// NewToken returns the text of a token, which is shown once.
	NewToken(t Token, by string) (string, Token, error)
	// ScreenLink is what a screen opens to begin its session with the text of its token.
	ScreenLink(text string) string
	RemoveToken(id string) error
	// SetupLink is where the first administrator is made; "" when there is one.
	SetupLink() string
	// Communes are the places that a setup can choose from.
	Communes() []Commune
	Setup(s Setup, remote string) error
	// AuditLog returns entries with a number below before (0: the newest), newest first.
	AuditLog(before uint64, limit int) ([]AuditEntry, error)
}

// Refusal is why something is not done, for whoever asked.
type Refusal struct {
	Status int // of HTTP
	What   string
	Wait   time.Duration // when it is worth trying again; 0: not
}

func (r *Refusal) Error() string { return r.What }

// Login is what somebody signs in with.
type Login struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	Token    string `json:"token"` // of a screen, instead
}

// User is somebody who signs in.
type User struct {
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Groups   []string  `json:"groups"` // of sites; empty: all
	Language string    `json:"language,omitempty"`
	Created  time.Time `json:"created"`
}

// Token is a machine, or a screen.
type Token struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Role    Role       `json:"role"`
	Groups  []string   `json:"groups"`
	Source  string     `json:"source,omitempty"`
	Kiosk   bool       `json:"kiosk,omitempty"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires"` // null: never
	By      string     `json:"by,omitempty"`
}

// Commune is a place that a setup can choose.
type Commune struct {
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	NameEN   string  `json:"name_en"`
	Province string  `json:"province"`
	Lat      float64 `json:"lat,omitempty"`
	Lon      float64 `json:"lon,omitempty"`
}

// Setup is what the first administrator says, with the secret of the setup link.
type Setup struct {
	Secret   string  `json:"secret"`
	Name     string  `json:"name"`
	Password string  `json:"password"`
	Language string  `json:"language"` // vi or en
	Address  string  `json:"address"`  // by which gateways and browsers reach the hub
	Sites    []Place `json:"sites"`
}

// Place is a site that a setup names: one of the communes by its id, or any other with
// a name.
type Place struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// AuditEntry is something that somebody did, or tried to do.
type AuditEntry struct {
	Number   uint64    `json:"number"`
	Recorded time.Time `json:"recorded"`
	Who      string    `json:"who"`
	Role     string    `json:"role,omitempty"`
	Remote   string    `json:"remote,omitempty"`
	Act      string    `json:"act"`
	Target   string    `json:"target,omitempty"`
	Result   string    `json:"result"`
}

// The bodies and answers that have no name elsewhere.
type (
	ownPasswordBody struct {
		Old      string `json:"old"`
		Password string `json:"password"`
	}
	userBody struct {
		Role     Role     `json:"role"`
		Groups   []string `json:"groups"`
		Language string   `json:"language"`
		Password string   `json:"password"` // empty: as it is
	}
	newToken struct {
		Text string `json:"text"`
		Link string `json:"link,omitempty"` // of a screen: opens the wall
		Token
	}
	setupAnswer struct {
		Open     bool      `json:"open"`
		Link     string    `json:"link,omitempty"` // for the hub's own machine
		Communes []Commune `json:"communes"`
	}
)

func (h *Handler) mountAccounts() {
	if h.cfg.Accounts == nil {
		return
	}
	h.handle("POST /api/v1/session", h.login)
	h.handle("DELETE /api/v1/session", h.logout)
	h.handle("GET /api/v1/session", h.whoami)
	h.handle("POST /api/v1/session/password", h.ownPassword)
	h.handle("GET /api/v1/users", func(w http.ResponseWriter, r *http.Request) {
		if h.allow(w, r, "limit", "cursor") {
			list(h, w, r, h.cfg.Accounts.Users(), func(u User) string { return u.Name }, func(User) bool { return true })
		}
	})
	h.handle("PUT /api/v1/users/{name}", h.putUser)
	h.handle("DELETE /api/v1/users/{name}", func(w http.ResponseWriter, r *http.Request) {
		h.done(w, r, h.cfg.Accounts.RemoveUser(r.PathValue("name")))
	})
	h.handle("GET /api/v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		if h.allow(w, r, "limit", "cursor") {
			list(h, w, r, h.cfg.Accounts.Tokens(), func(t Token) string { return t.Name + "/" + t.ID }, func(Token) bool { return true })
		}
	})
	h.handle("POST /api/v1/tokens", h.newToken)
	h.handle("DELETE /api/v1/tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		h.done(w, r, h.cfg.Accounts.RemoveToken(r.PathValue("id")))
	})
	h.handle("GET /api/v1/setup", h.getSetup)
	h.handle("POST /api/v1/setup", h.setup)
	h.handle("GET /api/v1/audit", h.audit)
}

// cookie is the name of the session's. With TLS the browser sees to it that nobody
// but this host sets it.
func cookie(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-langbiang"
	}
	return "langbiang"
}

// SessionOf returns the secret of the session that a request belongs to, "" when none.
func SessionOf(r *http.Request) string {
	c, err := r.Cookie(cookie(r))
	if err != nil {
		return ""
	}
	return c.Value
}

func (h *Handler) setCookie(w http.ResponseWriter, r *http.Request, value string, until time.Time) {
	c := &http.Cookie{Name: cookie(r), Value: value, Path: "/", Expires: until, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	if h.cfg.Framed && r.TLS != nil {
		// Within a page of another site the browser sends no other. What changes
		// something is refused from there all the same, see New.
		c.SameSite, c.Partitioned = http.SameSiteNoneMode, true
	}
	http.SetCookie(w, c)
}

// remote is the address that a request came from, without its port.
func remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// sessionAnswer says who somebody is.
type sessionAnswer struct {
	Name     string   `json:"name"`
	Role     Role     `json:"role"`
	Groups   []string `json:"groups"`
	Language string   `json:"language,omitempty"`
	Token    bool     `json:"token"` // a machine or a screen
	// Auth is false when nobody signs in at this hub.
	Auth bool `json:"auth"`
}

func (h *Handler) answerWho(w http.ResponseWriter, r *http.Request, p *Who) {
	groups := p.Groups
	if groups == nil {
		groups = []string{}
	}
	h.json(w, r, sessionAnswer{p.Name, p.Role, groups, p.Language, p.Token, h.cfg.Identify != nil})
}

func (h *Handler) whoami(w http.ResponseWriter, r *http.Request) { h.answerWho(w, r, who(r)) }

func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	var l Login
	if !h.allow(w, r) || !h.body(w, r, &l) {
		return
	}
	acting(w, l.Name)
	secret, p, until, err := h.cfg.Accounts.Login(l, remote(r))
	if err != nil {
		h.refusal(w, r, err)
		return
	}
	acting(w, p.Name)
	if old := SessionOf(r); old != "" {
		// Whatever the browser had before is of no more use, to anybody.
		if err := h.cfg.Accounts.Logout(old); err != nil {
			h.internal(w, r, err)
			return
		}
	}
	h.setCookie(w, r, secret, until)
	h.answerWho(w, r, &p)
}

func (h *Handler) logout(w http.ResponseWriter, r *http.Request) {
	if err := h.cfg.Accounts.Logout(SessionOf(r)); err != nil {
		h.internal(w, r, err)
		return
	}
	h.setCookie(w, r, "", time.Unix(1, 0))
	w.Header().Set("Clear-Site-Data", `"cache"`)
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) ownPassword(w http.ResponseWriter, r *http.Request) {
	var b ownPasswordBody
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	p := who(r)
	if p.Token || p.Console {
		h.problem(w, r, http.StatusForbidden, "no password", "this is no person who signed in")
		return
	}
	h.done(w, r, h.cfg.Accounts.Password(p.Name, b.Old, b.Password, remote(r)))
}

func (h *Handler) putUser(w http.ResponseWriter, r *http.Request) {
	var b userBody
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	h.done(w, r, h.cfg.Accounts.PutUser(User{Name: r.PathValue("name"), Role: b.Role, Groups: b.Groups, Language: b.Language}, b.Password, who(r).Name))
}

func (h *Handler) newToken(w http.ResponseWriter, r *http.Request) {
	var t Token
	if !h.allow(w, r) || !h.body(w, r, &t) {
		return
	}
	text, t, err := h.cfg.Accounts.NewToken(t, who(r).Name)
	if err != nil {
		h.refusal(w, r, err)
		return
	}
	answer := newToken{Text: text, Token: t}
	if t.Kiosk {
		answer.Link = h.cfg.Accounts.ScreenLink(text)
	}
	h.json(w, r, answer)
}

func (h *Handler) getSetup(w http.ResponseWriter, r *http.Request) {
	answer := setupAnswer{Communes: []Commune{}}
	if link := h.cfg.Accounts.SetupLink(); link != "" {
		answer.Open, answer.Communes = true, h.cfg.Accounts.Communes()
		if p := who(r); p != nil && p.Console {
			answer.Link = link
		}
	}
	h.json(w, r, answer)
}

func (h *Handler) setup(w http.ResponseWriter, r *http.Request) {
	var s Setup
	if !h.allow(w, r) || !h.body(w, r, &s) {
		return
	}
	acting(w, s.Name)
	h.done(w, r, h.cfg.Accounts.Setup(s, remote(r)))
}

func (h *Handler) audit(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r, "limit", "cursor") {
		newestFirst(h, w, r, func(e *AuditEntry) uint64 { return e.Number }, h.cfg.Accounts.AuditLog)
	}
}

// done answers what has nothing to say but whether it was done.
func (h *Handler) done(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		h.refusal(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// refusal answers a [*Refusal] as a problem, and any other error as ours.
func (h *Handler) refusal(w http.ResponseWriter, r *http.Request, err error) {
	var x *Refusal
	if !errors.As(err, &x) {
		h.internal(w, r, err)
		return
	}
	if x.Wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(x.Wait/time.Second)+1))
	}
	h.problem(w, r, x.Status, http.StatusText(x.Status), x.What)
}
