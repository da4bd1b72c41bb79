package camera

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/icholy/digest"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// maxPicture is how long a snapshot may be.
const maxPicture = 8 << 20

// snapshot is a picture and how old the camera says it is.
type snapshot struct {
	jpeg []byte
	age  time.Duration
	aged bool // the camera says when it was taken
}

// fetch gets a picture by HTTP, with the user if the camera asks for one. It
// returns within the timeout.
func fetch(ctx context.Context, cfg *Config, u *url.URL, l login) (snapshot, failure) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	tlsConfig, err := cfg.tlsConfig(u.Hostname())
	if err != nil {
		return snapshot{}, failuref(telemetry.ReasonConfiguration, "%v", err)
	}
	tr := &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, TLSClientConfig: tlsConfig,
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10,
	}
	defer tr.CloseIdleConnections()
	get := func(authorization string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("User-Agent", "langbiang-edge")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		return tr.RoundTrip(req) // no redirections, no cookies, no proxies
	}
	resp, err := get("")
	if err != nil {
		return snapshot{}, judge(err, u.Host)
	}
	if resp.StatusCode == http.StatusUnauthorized && l.user != "" {
		authorization, err := answer(resp.Header, u, l)
		_ = resp.Body.Close()
		if err != nil {
			return snapshot{}, failuref(telemetry.ReasonConfiguration, "%s: %v", u.Host, err)
		}
		if resp, err = get(authorization); err != nil {
			return snapshot{}, judge(err, u.Host)
		}
	}
	defer func() { _ = resp.Body.Close() }()
	return take(resp, u.Host)
}

// take reads the picture out of the answer.
func take(resp *http.Response, host string) (s snapshot, f failure) {
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return s, failuref(telemetry.ReasonConfiguration, "%s sends us on to %q: write that address, if it is the camera's", host, clip(resp.Header.Get("Location")))
	case resp.StatusCode != http.StatusOK:
		return s, judgeStatus(resp.StatusCode, host)
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "multipart/"):
		return s, failuref(telemetry.ReasonConfiguration, "%s sends a stream there, not a picture", host)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPicture+1))
	switch {
	case err != nil:
		return s, judge(err, host)
	case len(body) > maxPicture:
		return s, failuref(telemetry.ReasonMalformed, "%s sends more than %d MiB for a picture", host, maxPicture>>20)
	case len(body) < 4 || body[0] != 0xff || body[1] != 0xd8:
		return s, failuref(telemetry.ReasonMalformed, "%s sends something that %v", host, errNoJPEG)
	}
	s.jpeg = body
	// Both by the camera's clock, so that it does not matter whether it is right.
	date, err1 := http.ParseTime(resp.Header.Get("Date"))
	taken, err2 := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err := errors.Join(err1, err2); err == nil {
		s.age, s.aged = max(0, date.Sub(taken)), true
	}
	return s, failure{}
}

// answer is the Authorization that a challenge asks for.
func answer(h http.Header, u *url.URL, l login) (string, error) {
	if chal, err := digest.FindChallenge(h); err == nil {
		cred, err := digest.Digest(chal, digest.Options{Method: http.MethodGet, URI: u.RequestURI(), Count: 1, Username: l.user, Password: l.password})
		if err != nil {
			return "", fmt.Errorf("it asks for a login of a kind that is not known: %w", err)
		}
		return cred.String(), nil
	}
	for _, c := range h.Values("WWW-Authenticate") {
		if kind, _, _ := strings.Cut(c, " "); strings.EqualFold(kind, "basic") {
			req := http.Request{Header: http.Header{}}
			req.SetBasicAuth(l.user, l.password)
			return req.Header.Get("Authorization"), nil
		}
	}
	return "", errors.New("it asks for a login of a kind that is not known")
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}
