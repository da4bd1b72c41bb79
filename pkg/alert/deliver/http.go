package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// reserved are the networks that no outside receiver is in, beside those that
// [netip.Addr] knows by itself.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carriers' own
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), // IPv4 within
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// outside reports whether an address is one of the public network.
func outside(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// errPrivate says that a name led to an address that is not allowed.
var errPrivate = errors.New("is an address of this machine or of a private network; set allow_private: true if that is meant")

// newHTTP makes a client that dials only what is allowed: it is the address that
// is dialled which is looked at, whatever name led there, and redirects are not
// followed. It uses no proxy, which would dial in its stead.
func newHTTP(timeout time.Duration, allowPrivate bool) *http.Client {
	d := &net.Dialer{Timeout: or(timeout, defaultTimeout)}
	if !allowPrivate {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil || !outside(a.Addr()) {
				return fmt.Errorf("%s %w", address, errPrivate)
			}
			return nil
		}
	}
	return &http.Client{
		Timeout: or(timeout, defaultTimeout),
		Transport: &http.Transport{
			DialContext: d.DialContext, MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// maxAnswer is how much of an answer is read.
const maxAnswer = 64 << 10

// post sends the request and returns the answer's body. What the target does not
// want is a [*refusal], what it cannot take now a [*notBefore] or another error.
func post(ctx context.Context, c *http.Client, address string, header http.Header, body []byte, now time.Time) ([]byte, error) {
	return send(ctx, c, http.MethodPost, address, header, body, now)
}

func send(ctx context.Context, c *http.Client, method, address string, header http.Header, body []byte, now time.Time) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address cannot be used") // err may hold secrets of it
	}
	req.Header = header
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := c.Do(req)
	if err != nil {
		var ue *url.Error // it names the address, which may hold a secret
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		if err != nil {
			return nil, fmt.Errorf("the answer broke off: %w", err)
		}
		return answer, nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, &refusal{fmt.Sprintf("%s: redirects are not followed; configure the final address", resp.Status)}
	}
	text := resp.Status
	if said := brief(answer); said != "" {
		text += ": " + said
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		if resp.StatusCode < 500 {
			return nil, &refusal{text}
		}
	}
	if after, ok := retryAfter(resp.Header.Get("Retry-After"), now); ok {
		return nil, &notBefore{errors.New(text), after}
	}
	return nil, errors.New(text)
}

// brief is the beginning of what a target said, on one line.
func brief(answer []byte) string {
	const most = 300
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(answer[:min(len(answer), 2*most)]), "?")), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(s string, now time.Time) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now)), true
	}
	return 0, false
}

// withoutSecrets is an address as it may be shown: without user and query.
func withoutSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		if strings.Contains(address, "://") {
			return "?"
		}
		return address
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
