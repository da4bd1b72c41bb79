package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func handler(t *testing.T, cfg Config) http.Handler {
	t.Helper()
	h, err := Handler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Names that nobody fetches: of SVG and MathML for the document, and the link
// that Leaflet would show beside the map, which is switched off.
var onlyNames = regexp.MustCompile(`^(http://www\.w3\.org|https://leafletjs\.com)$`)

func TestThePageAsksNothingOfAnotherHost(t *testing.T) {
	address := regexp.MustCompile(`(?i)(https?:)//[a-z0-9-]+\.[a-z0-9.-]+`)
	seen := 0
	err := fs.WalkDir(files, "dist", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		b, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		for _, a := range address.FindAllString(string(b), -1) {
			if !onlyNames.MatchString(a) {
				t.Errorf("%s names %s", path, a)
			}
		}
		return nil
	})
	if err != nil || seen < 3 {
		t.Fatalf("%d files: %v", seen, err)
	}
}

func TestThePageMayRunItsOwnScriptsOnly(t *testing.T) {
	h := handler(t, Config{})
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css", "/icon.svg": "image/svg+xml"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'self'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
	index, err := files.ReadFile("dist/index.html")
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\son[a-z]+=|style=`).Match(index) {
		t.Error("index.html has a script or a style within, which the policy forbids")
	}
}

func TestNamedOriginsMayFrameThePageAndGiveTiles(t *testing.T) {
	h := handler(t, Config{Frames: []string{"https://ioc.lamdong.example"}, Images: []string{"https://tiles.example:8443"}})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"frame-ancestors 'self' https://ioc.lamdong.example;", "img-src 'self' https://tiles.example:8443;", "default-src 'self';"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
}

func TestThePageIsSentSmallAndOnce(t *testing.T) {
	h := handler(t, Config{})
	r := httptest.NewRequest(http.MethodGet, "/page.js", http.NoBody)
	r.Header.Set("Accept-Encoding", "br, gzip")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	want, err := files.ReadFile("dist/page.js")
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("unpacked %d bytes, want %d: %v", len(got), len(want), err)
	}
	r.Header.Set("If-None-Match", w.Header().Get("ETag"))
	again := httptest.NewRecorder()
	h.ServeHTTP(again, r)
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("asked again: %d with %d bytes", again.Code, again.Body.Len())
	}
}

func TestThePageIsReadOnlyAndBounded(t *testing.T) {
	h := handler(t, Config{})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/", http.StatusMethodNotAllowed},
		{http.MethodGet, "/nothing", http.StatusNotFound},
		{http.MethodGet, "/../web.go", http.StatusNotFound},
		{http.MethodGet, "/%2e%2e/web.go", http.StatusNotFound},
		{http.MethodHead, "/", http.StatusOK},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, http.NoBody))
		if w.Code != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		}
	}
}
