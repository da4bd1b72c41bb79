package deliver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// tokens keep an access token and the refresh token that gets the next one. A
// refresh token is often good for one use: the new one is on disk before the
// access token that came with it is used.
type tokens struct {
	name string
	cfg  *TokenConfig
	h    *httpChannel
	seed string // the refresh token of the configuration

	mu   sync.Mutex
	kept *keptToken // nil: not read yet
}

// keptToken is what the book holds, version 1.
type keptToken struct {
	Version int       `json:"version"`
	Seed    string    `json:"seed"` // hash of the configured token that all began with
	Refresh string    `json:"refresh"`
	Access  string    `json:"access"`
	Expires time.Time `json:"expires"`
}

type tokenData struct {
	Refresh string
	Secret  map[string]string
}

func newTokens(name string, c *TokenConfig, h *httpChannel) (*tokens, error) {
	b, err := c.Refresh.Read()
	if err != nil {
		return nil, err
	}
	return &tokens{name: name, cfg: c, h: h, seed: string(b)}, nil
}

// tokenMargin is how long before its end an access token is no longer used.
const tokenMargin = 5 * time.Minute

// access returns an access token; fresh wants a new one, whatever its age.
func (t *tokens) access(ctx context.Context, fresh bool) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil {
		if err := t.load(); err != nil {
			return "", err
		}
	}
	now := t.h.parts.Now()
	if !fresh && t.kept.Access != "" && now.Before(t.kept.Expires.Add(-tokenMargin)) {
		return t.kept.Access, nil
	}
	return t.refresh(ctx, now)
}

func (t *tokens) load() error {
	sum := sha256.Sum256([]byte(t.seed))
	seed := hex.EncodeToString(sum[:8])
	b, err := t.h.parts.Book.Token("channel/" + t.name)
	if err != nil {
		return err
	}
	k := &keptToken{}
	if len(b) > 0 {
		if err := json.Unmarshal(b, k); err != nil {
			return errors.New("what was kept cannot be read")
		}
		if k.Version != 1 {
			return fmt.Errorf("what was kept has version %d; this program knows 1", k.Version)
		}
	}
	if k.Seed != seed { // the first time, or an operator gave a new one
		k = &keptToken{Version: 1, Seed: seed, Refresh: t.seed}
	}
	t.kept = k
	return nil
}

func (t *tokens) refresh(ctx context.Context, now time.Time) (string, error) {
	data := tokenData{t.kept.Refresh, t.h.secrets}
	form, header := url.Values{}, http.Header{"User-Agent": {userAgent}, "Content-Type": {"application/x-www-form-urlencoded"}}
	for n, v := range t.cfg.Form {
		s, err := renderText(v, data)
		if err != nil {
			return "", err
		}
		form.Set(n, s)
	}
	for n, v := range t.cfg.Headers {
		s, err := renderText(v, data)
		if err != nil {
			return "", err
		}
		header.Set(n, s)
	}
	answer, err := post(ctx, t.h.client, t.cfg.URL, header, []byte(form.Encode()), now)
	if err != nil {
		return "", errors.New("it is not refreshed: " + statusOnly(err))
	}
	access, ok := field(answer, or(t.cfg.Access, "access_token"))
	if !ok || access == "" {
		why, _ := field(answer, "error_description")
		return "", errors.New("the answer holds no access token " + why)
	}
	next := *t.kept
	next.Access, next.Expires = access, now.Add(time.Hour)
	if s, ok := field(answer, or(t.cfg.Expires, "expires_in")); ok {
		if n, err := strconv.ParseFloat(s, 64); err == nil && n > 0 {
			next.Expires = now.Add(time.Duration(n * float64(time.Second)))
		}
	}
	if s, ok := field(answer, or(t.cfg.Next, "refresh_token")); ok && s != "" {
		next.Refresh = s
	}
	b, err := json.Marshal(next)
	if err != nil {
		return "", err
	}
	if err := t.h.parts.Book.PutToken("channel/"+t.name, b); err != nil {
		return "", err
	}
	t.kept = &next
	return access, nil
}

func renderText(text string, data any) (string, error) {
	t, err := parseTemplate(text)
	if err != nil {
		return "", err
	}
	return render(t, data)
}

// statusOnly is an error of a token's server without what it said, which may hold
// a token.
func statusOnly(err error) string {
	s := err.Error()
	if len(s) >= 3 {
		if _, e := strconv.Atoi(s[:3]); e == nil {
			return "status " + s[:3]
		}
	}
	return s
}
