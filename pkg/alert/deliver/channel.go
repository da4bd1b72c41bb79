package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"text/template"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// channel sends one message to one address. It may be used by several routes at
// once. A [*refusal] means that it will not be taken, ever; other errors are worth
// another try.
type channel interface {
	send(ctx context.Context, m *message) (detail string, err error)
	close()
}

// message is what one person is told.
type message struct {
	ID     string // the same for the same message, sent again
	To     string
	Person string
	Title  string
	Text   string
	Reason string
	Alerts []item
}

type email struct {
	cfg      *EmailConfig
	host     string
	port     int
	password string
}

func newEmail(c *EmailConfig) (*email, error) {
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, err
	}
	e := &email{cfg: c, host: host}
	if e.port, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	if c.Password.Set() {
		b, err := c.Password.Read()
		if err != nil {
			return nil, err
		}
		e.password = string(b)
	}
	return e, nil
}

func (e *email) send(ctx context.Context, m *message) (string, error) {
	msg := gomail.NewMsg()
	if err := msg.From(e.cfg.From); err != nil {
		return "", &refusal{err.Error()}
	}
	if err := msg.To(m.To); err != nil {
		return "", &refusal{err.Error()}
	}
	msg.Subject(m.Title)
	msg.SetDate()
	msg.SetMessageIDWithValue(m.ID + "@langbiang")
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	options := []gomail.Option{gomail.WithPort(e.port), gomail.WithTimeout(or(e.cfg.Timeout, 20*time.Second))}
	switch e.cfg.TLS {
	case "tls":
		options = append(options, gomail.WithSSL())
	case "none":
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if e.cfg.User != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(e.cfg.User), gomail.WithPassword(e.password))
	}
	ctx, cancel := context.WithTimeout(ctx, or(e.cfg.Timeout, 20*time.Second))
	defer cancel()
	// The library leaves connections open when a server fails halfway; ours end here.
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	options = append(options, gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
		var err error
		if conn, err = e.dial(ctx, network, address); err == nil {
			deadline, _ := ctx.Deadline()
			err = conn.SetDeadline(deadline)
		}
		return conn, err
	}))
	c, err := gomail.NewClient(e.host, options...)
	if err != nil {
		return "", &refusal{err.Error()}
	}
	err = c.DialAndSendWithContext(ctx, msg)
	var se *gomail.SendError
	switch {
	case err == nil:
		return "the mail server has taken it", nil
	case errors.As(err, &se) && !se.IsTemp() && se.ErrorCode() >= 500:
		return "", &refusal{err.Error()}
	}
	return "", err
}

// dial connects, and speaks TLS at once where that is configured.
func (e *email) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{}
	if e.cfg.TLS == "tls" {
		return (&tls.Dialer{NetDialer: d, Config: &tls.Config{ServerName: e.host, MinVersion: tls.VersionTLS12}}).DialContext(ctx, network, address)
	}
	return d.DialContext(ctx, network, address)
}

func (*email) close() {}

// httpChannel makes a request of each message.
type httpChannel struct {
	cfg     *HTTPChannelConfig
	parts   *Parts
	client  *http.Client
	secrets map[string]string
	url     *template.Template
	body    *template.Template
	headers map[string]*template.Template
	token   *tokens // nil: none
}

// messageData is what the templates of a channel see.
type messageData struct {
	*message
	Secret map[string]string
	Token  string
}

func newHTTPChannel(name string, c *HTTPChannelConfig, parts *Parts) (*httpChannel, error) {
	h := &httpChannel{cfg: c, parts: parts, client: newHTTP(c.Timeout, c.AllowPrivate), headers: map[string]*template.Template{}}
	var err error
	if h.secrets, err = readSecrets(c.Secrets); err != nil {
		return nil, err
	}
	if h.url, err = parseTemplate(c.URL); err != nil {
		return nil, err
	}
	if h.body, err = parseTemplate(c.Body); err != nil {
		return nil, err
	}
	for n, v := range c.Headers {
		if h.headers[n], err = parseTemplate(v); err != nil {
			return nil, err
		}
	}
	if c.Token != nil {
		h.token, err = newTokens(name, c.Token, h)
	}
	return h, err
}

func readSecrets(list map[string]Secret) (map[string]string, error) {
	out := map[string]string{}
	for name, s := range list {
		b, err := s.Read()
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		out[name] = string(b)
	}
	return out, nil
}

// checkHTTPTemplates tries the templates, with secrets that are not read.
func checkHTTPTemplates(c *HTTPChannelConfig) (msg string, path []any) {
	now := time.Unix(0, 0)
	secrets := map[string]string{}
	for name := range c.Secrets {
		secrets[name] = "x"
	}
	x := testEntry(now).Alert
	data := messageData{message: &message{ID: "test", To: "84900000000", Person: "test", Title: "test", Text: "test", Alerts: []item{{Alert: &x}}}, Secret: secrets, Token: "x"}
	try := func(text string, data any, at ...any) {
		t, err := parseTemplate(text)
		if err == nil {
			err = t.Execute(io.Discard, data)
		}
		if err != nil && msg == "" {
			msg, path = err.Error(), at
		}
	}
	try(c.URL, data, "url")
	try(c.Body, data, "body")
	for name, v := range c.Headers {
		try(v, data, "headers", name)
	}
	if c.Token != nil {
		form := tokenData{Refresh: "x", Secret: secrets}
		for name, v := range c.Token.Headers {
			try(v, form, "token", "headers", name)
		}
		for name, v := range c.Token.Form {
			try(v, form, "token", "form", name)
		}
	}
	return msg, path
}

func render(t *template.Template, data any) (string, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return "", &refusal{"the template fails: " + err.Error()}
	}
	return b.String(), nil
}

func (h *httpChannel) send(ctx context.Context, m *message) (string, error) {
	if n := h.cfg.MaxText; n > 0 {
		if r := []rune(m.Text); len(r) > n {
			short := *m
			short.Text = string(r[:max(0, n-3)]) + "..."
			m = &short
		}
	}
	for again := false; ; again = true {
		token := ""
		if h.token != nil {
			var err error
			if token, err = h.token.access(ctx, again); err != nil {
				return "", fmt.Errorf("access token: %w", err)
			}
		}
		detail, expired, err := h.once(ctx, m, token)
		if !expired || h.token == nil || again {
			return detail, err
		}
	}
}

// once makes the request; expired says that the token is the reason of the error.
func (h *httpChannel) once(ctx context.Context, m *message, token string) (detail string, expired bool, err error) {
	data := messageData{m, h.secrets, token}
	address, err := render(h.url, data)
	if err != nil {
		return "", false, err
	}
	body, err := render(h.body, data)
	if err != nil {
		return "", false, err
	}
	header := http.Header{"User-Agent": {userAgent}}
	if body != "" {
		header.Set("Content-Type", or(h.cfg.ContentType, "application/json"))
	}
	for n, t := range h.headers {
		v, err := render(t, data)
		if err != nil {
			return "", false, err
		}
		header.Set(n, strings.NewReplacer("\r", "", "\n", "").Replace(v))
	}
	answer, err := send(ctx, h.client, or(h.cfg.Method, http.MethodPost), address, header, []byte(body), h.parts.Now())
	if err != nil {
		return "", strings.HasPrefix(err.Error(), "401 "), err
	}
	said := brief(answer)
	ok := &h.cfg.OK
	if ok.Field == "" {
		return or(said, "taken"), false, nil
	}
	value, found := field(answer, ok.Field)
	switch {
	case found && value == ok.Equals:
		return said, false, nil
	case found && contains(ok.Expired, value):
		return "", true, errors.New(said)
	case found && contains(ok.Later, value), !found:
		return "", false, errors.New(or(said, "the answer is empty"))
	}
	return "", false, &refusal{said}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// field reads a scalar of a JSON document by its path with dots, as text.
func field(doc []byte, path string) (string, bool) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return "", false
	}
	for _, key := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		if v, ok = m[key]; !ok {
			return "", false
		}
	}
	switch v.(type) {
	case map[string]any, []any, nil:
		return "", false
	}
	return fmt.Sprint(v), true
}

func (h *httpChannel) close() { h.client.CloseIdleConnections() }
