package hub

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/bus"
	"github.com/langbiang/langbiang/pkg/identity"
	"github.com/langbiang/langbiang/pkg/identity/enrol"
	"github.com/langbiang/langbiang/pkg/ledger"
)

// identityFolder holds the authority, in the data folder: it belongs into every
// backup, beside the ledger.
const identityFolder = "identity"

// access is who may speak to the hub.
type access struct {
	hub       *Hub
	authority *identity.Authority
	edges     *identity.Edges
	users     *identity.Users
	said      said
	refusals  *prometheus.CounterVec
	limit     *rate.Limiter // of lines in the log that strangers can cause
}

// said is what was said at the setup; hub.yaml goes before it.
type said struct {
	Address  string      `json:"address,omitempty"`
	Language string      `json:"language,omitempty"`
	Sites    []api.Place `json:"sites,omitempty"`
}

const (
	settingKind = "setting"
	settingHub  = "hub"
)

// openAccess reads who may speak to the hub. The ledger is open.
func (h *Hub) openAccess() error {
	cfg := &h.plan.Config
	a := &access{hub: h, limit: rate.NewLimiter(1, 20), refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "langbiang_hub_identity_refused_total", Help: "Connections and requests of gateways that were refused, by reason.",
	}, []string{"reason"})}
	h.metrics.MustRegister(a.refusals)
	for _, reason := range identity.Reasons() {
		a.refusals.WithLabelValues(reason)
	}
	var err error
	supplied := identity.Files{Cert: cfg.Authority.Cert, Key: cfg.Authority.Key}
	if a.authority, err = identity.OpenAuthority(filepath.Join(cfg.DataDir, identityFolder), supplied, time.Now); err != nil {
		return err
	}
	if a.edges, err = identity.NewEdges(a.authority, h.ledger, time.Now); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if a.users, err = identity.NewUsers(h.ledger, time.Now); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if data, ok, err := h.ledger.GetRecord(settingKind, settingHub); err != nil {
		return fmt.Errorf("ledger: %w", err)
	} else if ok {
		if err := json.Unmarshal(data, &a.said); err != nil {
			return fmt.Errorf("what was said at the setup: %w", err)
		}
	}
	a.authority.SetNames(a.names())
	h.access = a
	return nil
}

// address is where others reach this hub, without a port.
func (a *access) address() string {
	switch {
	case a.hub.plan.Config.Address != "":
		return a.hub.plan.Config.Address
	case a.said.Address != "":
		return a.said.Address
	}
	if host, _, err := net.SplitHostPort(a.hub.plan.Config.HTTP.Listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			return host
		}
	}
	if list, err := net.InterfaceAddrs(); err == nil {
		for _, x := range list {
			if n, ok := x.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// names are what browsers may call this hub by.
func (a *access) names() []string {
	names := []string{a.address()}
	if name, err := os.Hostname(); err == nil && name != names[0] {
		names = append(names, name)
	}
	return names
}

// url is the address of the page.
func (a *access) url() string {
	scheme := "http"
	if a.hub.plan.httpTLS() {
		scheme = "https"
	}
	_, port, err := net.SplitHostPort(a.hub.Addr())
	if err != nil {
		return ""
	}
	return scheme + "://" + net.JoinHostPort(a.address(), port)
}

// screenLink begins the session of a screen and opens the wall.
func (a *access) screenLink(text string) string {
	return a.url() + "/login?next=%2F%23%2Fwall#kiosk=" + text
}

// setupLink is what makes the first administrator, empty when there is one.
func (a *access) setupLink() string {
	secret := a.users.SetupSecret()
	if secret == "" || a.hub.plan.Config.HTTP.Auth == authOff {
		return ""
	}
	return a.url() + "/login#setup=" + secret
}

// refused notes that a gateway was turned away.
func (a *access) refused(remote net.Addr, edge string, err error) {
	a.refusals.WithLabelValues(identity.Reason(err)).Inc()
	if a.limit.Allow() {
		from := ""
		if remote != nil {
			from = remote.String()
		}
		a.hub.logger.Warn("gateway refused", "remote", from, "edge", edge, "reason", err)
	}
}

// Authenticate implements [bus.Authenticator].
func (a *access) Authenticate(c bus.Client) (edge string, ok bool) {
	edge, err := a.edges.Admit(c.TLS, c.ID)
	if err != nil {
		a.refused(c.Remote, edge, err)
		return "", false
	}
	return edge, true
}

// busConfig is the bus's, by who may connect.
func (a *access) busConfig(c bus.Config) bus.Config {
	if a.hub.plan.mqttTLS() {
		c.TLS, c.Authenticator = a.edges.TLS(a.refused), a
	}
	return c
}

// httpTLS is how the page is served: with the certificate of the files for browsers, or
// one of the hub's authority; and always with the latter for gateways, which ask for
// the hub by its fixed name and show theirs when they have one.
func (a *access) httpTLS() (*tls.Config, error) {
	own := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.authority.Server() }
	browsers := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: own, NextProtos: []string{"h2", "http/1.1"}}
	if c := &a.hub.plan.Config.HTTP; c.Cert != "" {
		files := &certFiles{cert: c.Cert, key: c.Key, logger: a.hub.logger}
		if _, err := files.get(nil); err != nil {
			return nil, fmt.Errorf("http.cert: %w", err)
		}
		browsers.GetCertificate = files.get
	}
	gateways := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: own, ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"}}
	browsers.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName == enrol.ServerName {
			return gateways, nil
		}
		return nil, nil //nolint:nilnil // this one, says the interface
	}
	return browsers, nil
}

// identify implements [api.Identify].
func (a *access) identify(r *http.Request) (*api.Who, error) {
	var g identity.Grant
	var ok bool
	if text, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); bearer {
		if g, ok = a.users.Token(strings.TrimSpace(text)); !ok {
			return nil, errors.New("this token is not known here, or has ended")
		}
	} else if secret := api.SessionOf(r); secret != "" {
		if g, ok = a.users.Session(secret); !ok {
			return nil, nil //nolint:nilnil // a session that has ended is nobody's
		}
	} else {
		return nil, nil //nolint:nilnil // it says nothing
	}
	return a.who(&g), nil
}

func (a *access) who(g *identity.Grant) *api.Who {
	w := &api.Who{Name: g.Name, Role: api.Role(g.Role), Groups: g.Groups, Source: g.Source, Language: g.Language, Token: g.Token}
	if w.Language == "" {
		w.Language = a.said.Language
	}
	if len(g.Groups) > 0 {
		groups := g.Groups
		w.Sees = func(site string) bool {
			return slices.Contains(groups, site) || slices.ContainsFunc(a.hub.siteGroups(site), func(x string) bool { return slices.Contains(groups, x) })
		}
	}
	return w
}

// audit implements [api.Audit].
func (a *access) audit(r *http.Request, who *api.Who, act, target, result string) {
	e := ledger.AuditEntry{Act: act, Target: clip(target), Result: result, Remote: r.RemoteAddr}
	if who != nil {
		e.Who, e.Role = clip(who.Name), string(who.Role)
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		e.Remote = host
	}
	if strings.HasPrefix(result, "refused") {
		if !a.limit.Allow() {
			return // strangers cannot fill the log of what was done
		}
		a.hub.logger.Warn("request refused", "act", act, "who", e.Who, "remote", e.Remote, "target", e.Target, "result", result)
	}
	if err := a.hub.ledger.Audit(e); err != nil {
		a.hub.logger.Error("audit log not written", "act", act, "who", e.Who, "err", err)
	}
}

func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}

// certFiles is a certificate that is read anew when its file changes.
type certFiles struct {
	cert, key string
	logger    *slog.Logger
	state     certState
}

// enrolment implements [api.Enrolment].
type enrolment struct{ *access }

// refusalOf makes of the errors of identity what the API answers.
func refusalOf(err error) error {
	for is, status := range map[error]int{
		identity.ErrToken: http.StatusForbidden, identity.ErrForged: http.StatusForbidden, identity.ErrExpired: http.StatusForbidden,
		identity.ErrRevoked: http.StatusForbidden, identity.ErrSuperseded: http.StatusForbidden,
		identity.ErrRequest: http.StatusBadRequest, identity.ErrEdge: http.StatusUnprocessableEntity, identity.ErrUnknown: http.StatusNotFound,
		identity.ErrLogin: http.StatusForbidden, identity.ErrTooMany: http.StatusTooManyRequests, identity.ErrSetup: http.StatusForbidden,
		identity.ErrPassword: http.StatusUnprocessableEntity, identity.ErrUser: http.StatusUnprocessableEntity,
		identity.ErrNoUser: http.StatusNotFound, identity.ErrNoToken: http.StatusNotFound,
	} {
		if errors.Is(err, is) {
			r := &api.Refusal{Status: status, What: err.Error()}
			if status == http.StatusTooManyRequests {
				r.Wait = time.Minute
			}
			return r
		}
	}
	return err
}

func (e enrolment) answer(rec identity.EdgeRecord, cert []byte, err error, remote string) (any, string, error) {
	if err != nil {
		e.refused(address(remote), rec.Edge, err)
		return nil, rec.Edge, refusalOf(err)
	}
	_, port, _ := net.SplitHostPort(e.hub.BusAddr())
	return enrol.Answer{Edge: rec.Edge, Site: rec.Site, Certificate: cert, MQTT: port, Now: time.Now().UnixMilli()}, rec.Edge, nil
}

// address is a remote address as a [net.Addr].
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// Enrol implements [api.Enrolment].
func (e enrolment) Enrol(body []byte, remote string) (any, string, error) {
	var r enrol.Request
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, "", &api.Refusal{Status: http.StatusBadRequest, What: "the request cannot be read"}
	}
	rec, cert, err := e.edges.Enrol(r)
	return e.answer(rec, cert, err, remote)
}

// Renew implements [api.Enrolment].
func (e enrolment) Renew(cert *x509.Certificate, body []byte, remote string) (any, string, error) {
	var r enrol.Request
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, "", &api.Refusal{Status: http.StatusBadRequest, What: "the request cannot be read"}
	}
	rec, der, err := e.edges.Renew(cert, r)
	return e.answer(rec, der, err, remote)
}

// NewToken implements [api.Enrolment].
func (e enrolment) NewToken(t api.EdgeToken, by string) (api.EdgeToken, error) {
	if !e.hub.plan.httpTLS() || !e.hub.plan.mqttTLS() {
		return t, &api.Refusal{Status: http.StatusConflict, What: "gateways enrol over HTTPS and connect over TLS, and this hub speaks plain text: give http.listen and mqtt.listen addresses that gateways reach, or set http.tls and mqtt.tls to on, and start it anew"}
	}
	if t.Site != "" && len(e.hub.plan.Sites) > 0 && !slices.ContainsFunc(e.hub.plan.Sites, func(s Site) bool { return s.ID == t.Site }) {
		return t, &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("no site %.80q is listed; the sites are those of sites.yaml", t.Site)}
	}
	token, until, err := e.edges.NewToken(t.Edge, t.Site, t.Life, by)
	if err != nil {
		return t, refusalOf(err)
	}
	url := e.url()
	if t.Address != "" {
		if strings.Contains(t.Address, "/") {
			return t, &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("address %.80q: write HOST or HOST:PORT", t.Address)}
		}
		host := t.Address
		if _, _, err := net.SplitHostPort(host); err != nil {
			_, port, _ := net.SplitHostPort(e.hub.Addr())
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		url = "https://" + host
	}
	t.TTL, t.Address, t.Expires, t.Token = "", url, until, token.String()
	t.Command = "sudo langbiang-edge enroll " + url + " " + t.Token
	return t, nil
}

// Revoke implements [api.Enrolment].
func (e enrolment) Revoke(edge string) (int, error) {
	if err := e.edges.Revoke(edge); err != nil {
		return 0, refusalOf(err)
	}
	n := e.hub.bus.Disconnect(edge)
	e.hub.logger.Info("edge revoked", "edge", edge, "connections", n)
	return n, nil
}

// Certificates implements [api.Enrolment].
func (e enrolment) Certificates() []api.EdgeCertificate {
	var out []api.EdgeCertificate
	for _, r := range e.edges.List() {
		out = append(out, api.EdgeCertificate{
			Edge: r.Edge, Site: r.Site, Enrolled: pointer(r.Enrolled), Renewed: pointer(r.Renewed), NotAfter: pointer(r.NotAfter), Revoked: r.Revoked,
		})
	}
	return out
}

// Authority implements [api.Enrolment].
func (e enrolment) Authority() []byte { return e.authority.Certificate() }
