package deliver

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// PeopleConfig says who is told what, and how.
type PeopleConfig struct {
	Language  string          `yaml:"language" doc:"of what people are told: vi or en" default:"vi"`
	Contacts  []ContactConfig `yaml:"contacts" doc:"people and how to reach them"`
	Channels  []ChannelConfig `yaml:"channels" doc:"ways to reach people"`
	Routes    []RouteConfig   `yaml:"routes" doc:"who is told of which alerts"`
	Heartbeat PulseConfig     `yaml:"heartbeat" doc:"a daily sign of life on every channel, so that silence of the hub itself is noticed"`
}

// ContactConfig is one person, or a shared telephone or mailbox.
type ContactConfig struct {
	Name string            `yaml:"name" doc:"name"`
	At   map[string]string `yaml:"at" doc:"address for each channel by the channel's name" example:"{sms: '84901234567', mail: lan@example.vn}"`
}

// ChannelConfig is one way to reach people: email or http.
type ChannelConfig struct {
	Name  string             `yaml:"name" doc:"its name"`
	Email *EmailConfig       `yaml:"email" doc:"by SMTP"`
	HTTP  *HTTPChannelConfig `yaml:"http" doc:"by an HTTP request: SMS gateways, Zalo and others"`
}

// EmailConfig is a mail server.
type EmailConfig struct {
	Server   string        `yaml:"server" doc:"host:port" example:"smtp.example.vn:587"`
	TLS      string        `yaml:"tls" doc:"starttls, tls (from the first byte), or none" default:"starttls"`
	From     string        `yaml:"from" doc:"sender" example:"Langbiang <ioc@example.vn>"`
	User     string        `yaml:"user" doc:"user name; without it there is no authentication"`
	Password Secret        `yaml:"password" doc:"password"`
	Timeout  time.Duration `yaml:"timeout" doc:"for one mail" default:"20s"`
}

// HTTPChannelConfig is a request per message. URL, headers and body are templates.
type HTTPChannelConfig struct {
	URL          string            `yaml:"url" doc:"template of the address" example:"https://sms.example/send"`
	Method       string            `yaml:"method" doc:"POST, PUT or GET" default:"POST"`
	Headers      map[string]string `yaml:"headers" doc:"headers; the values are templates" example:"{access_token: '{{.Token}}'}"`
	Body         string            `yaml:"body" doc:"template of the body; it sees .To, .Person, .Title, .Text, .ID, .Alerts, .Secret.NAME and .Token"`
	ContentType  string            `yaml:"content_type" doc:"of the body" default:"application/json"`
	Secrets      map[string]Secret `yaml:"secrets" doc:"secrets for the templates, by name"`
	OK           AnswerConfig      `yaml:"ok" doc:"what an answer must hold to be a success, beside a status of 2xx"`
	MaxText      int               `yaml:"max_text" doc:"longest .Text, in characters; 0: any" default:"0"`
	Token        *TokenConfig      `yaml:"token" doc:"an access token that is refreshed by itself, as Zalo has it"`
	Timeout      time.Duration     `yaml:"timeout" doc:"for one request" default:"10s"`
	AllowPrivate bool              `yaml:"allow_private" doc:"allow addresses of this machine and of private networks" default:"false"`
}

// AnswerConfig says which answers are successes.
type AnswerConfig struct {
	Field   string   `yaml:"field" doc:"path of a field of the answer's JSON, with dots" example:"error"`
	Equals  string   `yaml:"equals" doc:"what it must be" example:"'0'"`
	Expired []string `yaml:"expired" doc:"values of the field that mean that the access token is over" example:"['-216', '-124']"`
	Later   []string `yaml:"later" doc:"values that mean: try again later; all others are refusals"`
}

// TokenConfig says how an access token is got with a refresh token, which is often
// good for one use and answered with the next one. The newest is kept by the hub.
type TokenConfig struct {
	URL     string            `yaml:"url" doc:"where to POST the form" example:"https://oauth.zaloapp.com/v4/oa/access_token"`
	Headers map[string]string `yaml:"headers" doc:"headers; the values are templates that see .Secret.NAME" example:"{secret_key: '{{.Secret.app}}'}"`
	Form    map[string]string `yaml:"form" doc:"fields of the form; the values are templates that see .Refresh and .Secret.NAME" example:"{grant_type: refresh_token, refresh_token: '{{.Refresh}}', app_id: '123'}"`
	Refresh Secret            `yaml:"refresh" doc:"the first refresh token; put a new one there to begin anew"`
	Access  string            `yaml:"access" doc:"field of the answer with the access token" default:"access_token"`
	Next    string            `yaml:"next" doc:"field with the next refresh token" default:"refresh_token"`
	Expires string            `yaml:"expires" doc:"field with the access token's life in seconds" default:"expires_in"`
}

// RouteConfig tells people of alerts.
type RouteConfig struct {
	Name     string           `yaml:"name" doc:"its own name among all targets and routes"`
	Choose   feed.Choice      `yaml:"choose" doc:"of which alerts"`
	Hours    []string         `yaml:"hours" doc:"when it may speak; what still stands when they begin is told then; empty: always" example:"[07:00-18:00]"`
	Days     []string         `yaml:"days" doc:"on which days: mon, tue, wed, thu, fri, sat, sun; empty: all"`
	Tell     []string         `yaml:"tell" doc:"names of contacts"`
	By       []string         `yaml:"by" doc:"channels in the order in which they are tried for each person"`
	GroupBy  string           `yaml:"group_by" doc:"what is gathered after its first notice: site, rule, or all" default:"site"`
	Digest   time.Duration    `yaml:"digest" doc:"how long what follows the first notice is gathered; what is worse is told at once" default:"10m"`
	Over     time.Duration    `yaml:"late_wait" doc:"how long an alert that is known late waits for its end before anybody is told" default:"30s"`
	Ends     string           `yaml:"ends" doc:"digest: ends are told with the next digest; none: not at all" default:"digest"`
	Awake    []string         `yaml:"awake" doc:"when a digest of nothing but what is over may be sent" default:"[07:00-21:00]"`
	Escalate []EscalateConfig `yaml:"escalate" doc:"who else is told when nobody acknowledges"`
}

// EscalateConfig is one step up.
type EscalateConfig struct {
	After time.Duration `yaml:"after" doc:"so long after the first notice" example:"15m"`
	Tell  []string      `yaml:"tell" doc:"names of contacts"`
	By    []string      `yaml:"by" doc:"channels; those of the route when empty"`
}

// PulseConfig is the daily sign of life.
type PulseConfig struct {
	At   string   `yaml:"at" doc:"time of day, Vietnam's; empty: none" example:"07:30"`
	Tell []string `yaml:"tell" doc:"names of contacts; each channel sends to all of them that it reaches"`
}

func defaultPeople() PeopleConfig { return PeopleConfig{Language: "vi"} }

func (c *PeopleConfig) resolve(at func(*string)) {
	for i := range c.Channels {
		ch := &c.Channels[i]
		if ch.Email != nil {
			at(&ch.Email.Password.File)
		}
		if ch.HTTP == nil {
			continue
		}
		for name, s := range ch.HTTP.Secrets {
			at(&s.File)
			ch.HTTP.Secrets[name] = s
		}
		if ch.HTTP.Token != nil {
			at(&ch.HTTP.Token.Refresh.File)
		}
	}
}

// heartbeatName is the consumer that sends the sign of life.
const heartbeatName = "heartbeat"

// people are the routes with what they share.
type people struct {
	cfg       *PeopleConfig
	url       string // of the hub, may be empty
	parts     *Parts
	channels  map[string]channel
	routes    []*route
	heartbeat *pulse
}

func newPeople(cfg *Config, parts *Parts) (*people, error) {
	p := &people{cfg: &cfg.People, url: strings.TrimRight(cfg.PublicURL, "/"), parts: parts, channels: map[string]channel{}}
	for i := range p.cfg.Channels {
		c := &p.cfg.Channels[i]
		var err error
		switch {
		case c.Email != nil:
			p.channels[c.Name], err = newEmail(c.Email)
		case c.HTTP != nil:
			p.channels[c.Name], err = newHTTPChannel(c.Name, c.HTTP, parts)
		}
		if err != nil {
			return nil, fmt.Errorf("channel %s: %w", c.Name, err)
		}
	}
	for i := range p.cfg.Routes {
		r, err := newRoute(&p.cfg.Routes[i], p)
		if err != nil {
			return nil, err
		}
		p.routes = append(p.routes, r)
	}
	if p.cfg.Heartbeat.At != "" {
		p.heartbeat = newPulse(p)
	}
	return p, nil
}

// send sends by a channel that the configuration has, or says that it is gone.
func (p *people) send(ctx context.Context, name string, m *message) (string, error) {
	c, ok := p.channels[name]
	if !ok || m.To == "" {
		return "", &refusal{"the configuration no longer has this way to reach " + m.Person}
	}
	return c.send(ctx, m)
}

// address is where a person is on a channel.
func (p *people) address(person, channel string) string {
	for i := range p.cfg.Contacts {
		if p.cfg.Contacts[i].Name == person {
			return p.cfg.Contacts[i].At[channel]
		}
	}
	return ""
}

// reach are those of the channels that reach the person, in order.
func (p *people) reach(person string, by []string) (out []string) {
	for _, c := range by {
		if p.address(person, c) != "" {
			out = append(out, c)
		}
	}
	return out
}

func (k *check) people(c *PeopleConfig) {
	at := func(path ...any) []any { return append([]any{"people"}, path...) }
	if c.Language != "vi" && c.Language != "en" {
		k.fault(fmt.Sprintf("%q is not known", c.Language), "vi or en", at("language")...)
	}
	var channels, contacts []string
	for i := range c.Channels {
		ch := &c.Channels[i]
		if !namePattern.MatchString(ch.Name) || slices.Contains(channels, ch.Name) {
			k.fault(fmt.Sprintf("%q is no name, or taken", ch.Name), "a short name of its own: mail, sms, zalo", at("channels", i, "name")...)
		}
		channels = append(channels, ch.Name)
		k.channel(ch, at("channels", i))
	}
	for i := range c.Contacts {
		x := &c.Contacts[i]
		if x.Name == "" || slices.Contains(contacts, x.Name) {
			k.fault(fmt.Sprintf("%q is no name, or taken", x.Name), "", at("contacts", i, "name")...)
		}
		contacts = append(contacts, x.Name)
		for name, address := range x.At {
			where := at("contacts", i, "at", name)
			j := slices.Index(channels, name)
			if j < 0 {
				k.fault(fmt.Sprintf("there is no channel %q", name), strictyaml.Meant(name, channels), where...)
				continue
			}
			if address == "" || strings.ContainsAny(address, "\r\n") {
				k.fault("is no address", "", where...)
			} else if c.Channels[j].Email != nil {
				if _, err := mail.ParseAddress(address); err != nil {
					k.fault(fmt.Sprintf("%q is no mail address", address), "", where...)
				}
			}
		}
	}
	tell := func(tell, by []string, where []any) {
		for j, person := range tell {
			i := slices.Index(contacts, person)
			if i < 0 {
				k.fault(fmt.Sprintf("there is no contact %q", person), strictyaml.Meant(person, contacts), append(slices.Clone(where), "tell", j)...)
			} else if !slices.ContainsFunc(by, func(ch string) bool { return c.Contacts[i].At[ch] != "" }) {
				k.fault(fmt.Sprintf("%s has an address on none of %s", person, strings.Join(by, ", ")), "add one to the contact, or another channel to by", append(slices.Clone(where), "tell", j)...)
			}
		}
		if len(tell) == 0 {
			k.fault("must be set", "names of contacts", append(slices.Clone(where), "tell")...)
		}
	}
	known := func(by []string, where []any) {
		for j, name := range by {
			if !slices.Contains(channels, name) {
				k.fault(fmt.Sprintf("there is no channel %q", name), strictyaml.Meant(name, channels), append(slices.Clone(where), "by", j)...)
			}
		}
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		where := at("routes", i)
		k.name(r.Name, append(slices.Clone(where), "name"))
		k.choice(&r.Choose, append(slices.Clone(where), "choose"))
		if len(r.By) == 0 {
			k.fault("must be set", "names of channels in the order in which they are tried", append(slices.Clone(where), "by")...)
		}
		known(r.By, where)
		tell(r.Tell, r.By, where)
		k.hours(r.Hours, r.Days, where, "hours")
		k.hours(r.Awake, nil, where, "awake")
		if !slices.Contains([]string{"", "site", "rule", "all"}, r.GroupBy) {
			k.fault(fmt.Sprintf("%q is not known", r.GroupBy), "site, rule or all", append(slices.Clone(where), "group_by")...)
		}
		if !slices.Contains([]string{"", "digest", "none"}, r.Ends) {
			k.fault(fmt.Sprintf("%q is not known", r.Ends), "digest or none", append(slices.Clone(where), "ends")...)
		}
		k.atLeast(r.Digest, time.Second, append(slices.Clone(where), "digest"))
		last := time.Duration(0)
		for j := range r.Escalate {
			e := &r.Escalate[j]
			step := append(slices.Clone(where), "escalate", j)
			if e.After <= last {
				k.fault("must be set, and longer than the step before", "for example 15m, then 30m", append(slices.Clone(step), "after")...)
			}
			last = e.After
			known(e.By, step)
			tell(e.Tell, orList(e.By, r.By), step)
		}
	}
	if c.Heartbeat.At != "" {
		if _, err := time.Parse("15:04", c.Heartbeat.At); err != nil {
			k.fault(fmt.Sprintf("%q is no time of day", c.Heartbeat.At), "for example 07:30", at("heartbeat", "at")...)
		}
		tell(c.Heartbeat.Tell, channels, at("heartbeat"))
	}
}

func orList(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

func (k *check) hours(hours, days []string, where []any, key string) {
	for j, h := range hours {
		if _, err := parseSpan(h); err != nil {
			k.fault(fmt.Sprintf("%q is no span of hours", h), "for example 07:00-18:00, or 22:00-06:00 over midnight", append(slices.Clone(where), key, j)...)
		}
	}
	for j, d := range days {
		if !slices.Contains(dayNames[:], d) {
			k.fault(fmt.Sprintf("%q is no day", d), strings.Join(dayNames[:], ", "), append(slices.Clone(where), "days", j)...)
		}
	}
}

func (k *check) channel(c *ChannelConfig, where []any) {
	at := func(path ...any) []any { return append(slices.Clone(where), path...) }
	switch {
	case (c.Email == nil) == (c.HTTP == nil):
		k.fault("is either email or http", "", where...)
	case c.Email != nil:
		e := c.Email
		k.hostPort(e.Server, at("email", "server"))
		k.secret(e.Password, at("email", "password"))
		if _, err := mail.ParseAddress(e.From); err != nil {
			k.fault(fmt.Sprintf("%q is no mail address", e.From), "for example Langbiang <ioc@example.vn>", at("email", "from")...)
		}
		if !slices.Contains([]string{"", "starttls", "tls", "none"}, e.TLS) {
			k.fault(fmt.Sprintf("%q is not known", e.TLS), "starttls, tls or none", at("email", "tls")...)
		}
		if e.TLS == "none" && e.Password.Set() {
			k.fault("would send the password in plain text", "starttls or tls", at("email", "tls")...)
		}
	case c.HTTP != nil:
		for name, s := range c.HTTP.Secrets {
			k.secret(s, at("http", "secrets", name))
		}
		if !slices.Contains([]string{"", "POST", "PUT", "GET"}, c.HTTP.Method) {
			k.fault(fmt.Sprintf("%q is not known", c.HTTP.Method), "POST, PUT or GET", at("http", "method")...)
		}
		if !strings.Contains(c.HTTP.URL, "{{") {
			k.url(c.HTTP.URL, c.HTTP.AllowPrivate, at("http", "url")...)
		}
		if t := c.HTTP.Token; t != nil {
			k.url(t.URL, c.HTTP.AllowPrivate, at("http", "token", "url")...)
			if !t.Refresh.Set() {
				k.fault("must be set", "{file: PATH} with the first refresh token", at("http", "token", "refresh")...)
			}
			k.secret(t.Refresh, at("http", "token", "refresh"))
		}
		if msg, path := checkHTTPTemplates(c.HTTP); msg != "" {
			k.fault(msg, "templates see .To, .Person, .Title, .Text, .ID, .Alerts, .Secret.NAME and .Token", at(append([]any{"http"}, path...)...)...)
		}
	}
}
