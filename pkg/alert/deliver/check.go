package deliver

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/cap"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// Known is what a configuration may refer to.
type Known struct {
	Sites, Groups, Rules []string
}

// Fault tells one mistake: what is wrong, how to mend it, and where, as a path of
// keys and indexes below the section.
type Fault func(msg, hint string, path ...any)

type check struct {
	fault Fault
	known Known
	names map[string]bool
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// Check tells every fault of the section, secrets that cannot be read and
// templates that fail among them. Nothing is sent.
func (c *Config) Check(known Known, fault Fault) {
	k := &check{fault: fault, known: known, names: map[string]bool{}}
	if c.PublicURL != "" {
		k.url(c.PublicURL, true, "public_url")
	}
	for i := range c.Webhooks {
		k.webhook(&c.Webhooks[i], i)
	}
	for i := range c.Alertmanagers {
		a := &c.Alertmanagers[i]
		at := func(key string) []any { return []any{"alertmanagers", i, key} }
		k.name(a.Name, at("name"))
		k.url(a.URL, true, at("url")...)
		k.choice(&a.Choose, at("choose"))
		k.secret(a.Password, at("password"))
		k.atLeast(a.ResendEvery, time.Second, at("resend_every"))
		k.atLeast(a.Timeout, time.Second/10, at("timeout"))
		if a.User == "" && a.Password.Set() {
			k.fault("must be set when there is a password", "", at("user")...)
		}
	}
	for i := range c.MQTT {
		k.mqtt(&c.MQTT[i], i)
	}
	k.cap(&c.CAP)
	k.people(&c.People)
}

func (k *check) name(name string, at []any) {
	switch {
	case name == "":
		k.fault("must be set", "a short name of its own, for example ioc", at...)
	case !namePattern.MatchString(name) || name == heartbeatName:
		k.fault(fmt.Sprintf("%q is not a name", name), "use a-z, 0-9, _, . and -, at most 63; heartbeat is taken", at...)
	case k.names[name]:
		k.fault(fmt.Sprintf("%q is taken", name), "each target and route has a name of its own: its position is kept under it", at...)
	}
	k.names[name] = true
}

// url checks an address; one that is a private number is told at once, one whose
// name leads there when it is dialled.
func (k *check) url(address string, private bool, at ...any) {
	u, err := url.Parse(address)
	switch {
	case address == "":
		k.fault("must be set", "for example https://ioc.example/alerts", at...)
		return
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		k.fault("is no address of http or https", "for example https://ioc.example/alerts", at...)
		return
	case u.User != nil:
		k.fault("holds a user or password, which would be seen in logs", "use bearer, password or headers", at...)
	}
	host := u.Hostname()
	if a, err := netip.ParseAddr(host); !private && (err == nil && !outside(a) || strings.EqualFold(host, "localhost")) {
		k.fault(fmt.Sprintf("%s %v", host, errPrivate), "", at...)
	}
}

func (k *check) secret(s Secret, at []any) {
	if !s.Set() {
		return
	}
	if _, err := s.Read(); err != nil {
		k.fault("cannot be read: "+err.Error(), "{file: PATH} or {env: NAME}", at...)
	}
}

func (k *check) atLeast(d, least time.Duration, at []any) {
	if d != 0 && d < least {
		k.fault("too small", fmt.Sprintf("at least %s", least), at...)
	}
}

func (k *check) choice(c *feed.Choice, at []any) {
	words := func(key string, list, known []string, what string) {
		for i, w := range list {
			if len(known) > 0 && !slices.Contains(known, w) {
				k.fault(fmt.Sprintf("there is no %s %q", what, w), strictyaml.Meant(w, known), append(slices.Clone(at), key, i)...)
			}
		}
	}
	words("site", c.Site, k.known.Sites, "site")
	words("group", c.Group, k.known.Groups, "group of sites")
	words("rule", c.Rule, k.known.Rules, "rule")
	if c.State != "" && c.State != alert.Active && c.State != alert.Cleared {
		k.fault(fmt.Sprintf("%q is no state", c.State), "active or cleared", append(slices.Clone(at), "state")...)
	}
	if !slices.Contains([]string{"", feed.WithTests, feed.OnlyTests, feed.WithoutTests}, c.Tests) {
		k.fault(fmt.Sprintf("%q is not known", c.Tests), "with, only or without", append(slices.Clone(at), "tests")...)
	}
}

func (k *check) webhook(c *WebhookConfig, i int) {
	at := func(key string) []any { return []any{"webhooks", i, key} }
	k.name(c.Name, at("name"))
	k.url(c.URL, c.AllowPrivate, at("url")...)
	k.choice(&c.Choose, at("choose"))
	k.secret(c.Secret, at("secret"))
	k.secret(c.Bearer, at("bearer"))
	k.atLeast(c.Timeout, time.Second/10, at("timeout"))
	k.atLeast(c.SkipAfter, time.Second, at("skip_after"))
	k.atLeast(c.Heartbeat, time.Second, at("heartbeat"))
	k.from(c.From, at("from"))
	k.headers(c.Headers, at("headers"))
	if c.Secret.Set() {
		if b, err := c.Secret.Read(); err == nil {
			if _, err := signingKey(b); err != nil {
				k.fault(err.Error(), "whsec_ and 32 random bytes as base64, or any other text", at("secret")...)
			}
		}
	}
	if c.Body == "" {
		return
	}
	t, err := parseTemplate(c.Body)
	if err != nil {
		k.fault(err.Error(), "", at("body")...)
		return
	}
	now := time.Unix(0, 0)
	e := feed.Telling(feed.TypeTest, feed.DefaultSource, feed.Told{Generation: "test"}, now)
	parts := &Parts{Site: func(string) (Site, bool) { return Site{}, false }}
	if err := t.Execute(&bytes.Buffer{}, templateData(&e, testEntry(now), parts)); err != nil {
		k.fault("the template fails: "+err.Error(), "it sees .Event, .Entry, .Alert, .Site and .Message", at("body")...)
	}
}

func (k *check) headers(h map[string]string, at []any) {
	for name, value := range h {
		if !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n") {
			k.fault(fmt.Sprintf("%q is no header", name), "a name of letters, digits and -, and a value on one line", append(slices.Clone(at), name)...)
		}
	}
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

func (k *check) from(from string, at []any) {
	if from != "" && from != "now" && from != "oldest" {
		k.fault(fmt.Sprintf("%q is not known", from), "now or oldest", at...)
	}
}

func (k *check) mqtt(c *MQTTConfig, i int) {
	at := func(key string) []any { return []any{"mqtt", i, key} }
	k.name(c.Name, at("name"))
	k.choice(&c.Choose, at("choose"))
	k.secret(c.Password, at("password"))
	k.atLeast(c.Timeout, time.Second/10, at("timeout"))
	k.from(c.From, at("from"))
	if strings.ContainsAny(c.Topic, "+#\x00") || strings.HasPrefix(c.Topic, "/") || strings.HasSuffix(c.Topic, "/") || strings.HasPrefix(c.Topic, "$") {
		k.fault(fmt.Sprintf("%q cannot begin a topic", c.Topic), "for example city/alerts", at("topic")...)
	}
	if c.Broker == HubBus {
		if c.Topic != "" && c.Topic != BusTopic {
			k.fault("the hub's own bus has alerts at "+BusTopic+" only", "leave it out", at("topic")...)
		}
		return
	}
	u, err := url.Parse(c.Broker)
	if err != nil || !slices.Contains([]string{"tcp", "mqtt", "ssl", "tls", "mqtts"}, u.Scheme) || u.User != nil || u.Port() == "" || u.Hostname() == "" {
		k.fault("is no broker", "hub, tcp://HOST:1883 or ssl://HOST:8883; user and password have keys of their own", at("broker")...)
	}
	if c.CAFile != "" {
		if _, err := newMQTT(&MQTTConfig{CAFile: c.CAFile}, "", nil); err != nil {
			k.fault(err.Error(), "a file of certificates in PEM", at("ca_file")...)
		}
	}
}

func (k *check) cap(c *CAPConfig) {
	if c.Sender == "" || strings.ContainsAny(c.Sender, " ,<&\t\r\n") {
		k.fault(fmt.Sprintf("%q cannot be a sender", c.Sender), "no spaces, commas, < or &; for example ioc@example.vn", "cap", "sender")
	}
	if !slices.Contains(cap.Scopes(), c.Scope) {
		k.fault(fmt.Sprintf("%q is not known", c.Scope), strings.Join(cap.Scopes(), ", "), "cap", "scope")
	}
	if !slices.Contains(cap.Categories(), c.Category) {
		k.fault(fmt.Sprintf("%q is not known", c.Category), strings.Join(cap.Categories(), ", "), "cap", "category")
	}
	if c.Radius < 0 || c.Radius > 500 {
		k.fault("is no radius", "0 to 500 km", "cap", "radius")
	}
}

// hostPort checks a server's address.
func (k *check) hostPort(address string, at []any) {
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		k.fault(fmt.Sprintf("%q is not an address", address), "write host:port, for example smtp.example:587", at...)
	}
}
