package api

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// asked sends a request to a handler with everything mounted, as whom the header says.
func asked(t *testing.T, h *Handler, pattern, role string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = http.MethodGet, pattern
	}
	path = regexp.MustCompile(`\{\w+\}`).ReplaceAllString(strings.TrimSuffix(path, "{$}"), "a")
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Role", role)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// byHeader lets tests say who asks.
func byHeader(r *http.Request) (*Who, error) {
	switch role := r.Header.Get("Role"); role {
	case "":
		return nil, nil //nolint:nilnil // nobody
	case "wrong":
		return nil, errors.New("this token is not known here")
	default:
		w := &Who{Name: "Lan", Role: Role(role)}
		if r.Header.Get("Groups") != "" {
			w.Sees = func(site string) bool { return site == r.Header.Get("Groups") }
		}
		return w, nil
	}
}

func TestEveryRouteStandsInTheTableAndTheTableNamesNoOther(t *testing.T) {
	h := everything()
	seen := map[string]bool{}
	for _, p := range h.mounted {
		seen[p] = true
		if _, ok := grants[p]; !ok {
			t.Errorf("%s is not in the table", p)
		}
	}
	for p := range grants {
		if !seen[p] {
			t.Errorf("%s stands in the table and is not mounted", p)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a route without an entry was mounted")
		}
	}()
	h.handle("GET /api/v1/secrets", nil)
}

func TestEachRoleStopsWhereItsRightsEnd(t *testing.T) {
	h := everything()
	h.cfg.Identify = byHeader
	var audited []string
	h.cfg.Audit = func(_ *http.Request, _ *Who, act, _, result string) { audited = append(audited, act+": "+result) }
	changes := 0
	for _, pattern := range slices.Sorted(maps.Keys(grants)) {
		g := grants[pattern]
		if g.role == Anyone {
			continue
		}
		if w := asked(t, h, pattern, ""); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s by nobody: %d", pattern, w.Code)
		}
		if w := asked(t, h, pattern, "wrong"); w.Code != http.StatusForbidden {
			t.Errorf("%s with a wrong token: %d", pattern, w.Code)
		}
		for _, r := range append([]Role{RoleSource, "root", "ADMIN"}, ladder...) {
			if g.role != Console && r.may(g.role) {
				break
			}
			if w := asked(t, h, pattern, string(r)); w.Code != http.StatusForbidden {
				t.Errorf("%s by %s: %d", pattern, r, w.Code)
			}
		}
		if g.whole {
			if w := asked(t, h, pattern, string(Admin), "Groups", "river"); w.Code != http.StatusForbidden {
				t.Errorf("%s by an administrator of some sites: %d", pattern, w.Code)
			}
		}
		if g.act != "" {
			changes++
		}
	}
	if len(audited) < 3*changes {
		t.Errorf("%d refusals noted for %d routes that change something", len(audited), changes)
	}
}

func TestABrowserIsLedToSignInAndAProgramIsTold(t *testing.T) {
	h := everything()
	h.cfg.Identify = byHeader
	w := asked(t, h, "GET /?view=map", "", "Accept", "text/html")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/login?next=%2F%3Fview%3Dmap" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Location"))
	}
	if w := asked(t, h, "GET /api/v1/alerts", "", "Accept", "text/html"); w.Code != http.StatusUnauthorized {
		t.Errorf("%d", w.Code)
	}
}

func TestAHubWhereNobodySignsInAnswersItsOwnMachineOnly(t *testing.T) {
	h := New(Config{Alerts: newMemoryLog(), Fleet: fixedFleet{}, Logger: everything().cfg.Logger})
	for name, change := range map[string]func(*http.Request){
		"another machine":                      func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1000" },
		"a proxy that says so":                 func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") },
		"a proxy that says so, standard":       func(r *http.Request) { r.Header.Set("Forwarded", "for=192.0.2.1") },
		"a name of the internet that leads in": func(r *http.Request) { r.Host = "evil.example:8080" },
		"no port, no address":                  func(r *http.Request) { r.RemoteAddr = "" },
	} {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8080/api/v1/sites", http.NoBody)
		r.RemoteAddr = "127.0.0.1:1000"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatalf("the machine itself: %d %s", w.Code, w.Body)
		}
		change(r)
		w = httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

func TestAnswersCarryTheHeadersThatBrowsersObey(t *testing.T) {
	w := asked(t, everything(), "GET /healthz", "")
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
