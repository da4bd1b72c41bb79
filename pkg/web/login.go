package web

import (
	"embed"
	"net/http"
	"path"
	"strings"
)

//go:embed login
var loginFiles embed.FS

// Login serves the page at /login, which everybody may open: to sign in, to make the
// first administrator (#setup=SECRET), to begin the session of a screen (#kiosk=TOKEN).
// What is secret stands after the #, which browsers do not send. Frames are the
// origins whose pages may show it in a frame, where a screen begins its session, too:
// within another site's page a browser has other cookies. It is safe for concurrent
// use.
func Login(frames []string) (http.Handler, error) {
	if _, err := loginFiles.ReadFile("login/login.html"); err != nil {
		return nil, err
	}
	ancestors := "frame-ancestors 'none'"
	if len(frames) > 0 {
		ancestors = list("frame-ancestors", frames)
	}
	policy := "default-src 'self'; " + ancestors + "; base-uri 'none'; form-action 'none'; object-src 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "login.html"
		if rest, ok := strings.CutPrefix(r.URL.Path, "/login/"); ok && rest != "" {
			name = rest
		}
		data, err := loginFiles.ReadFile(path.Join("login", path.Clean("/"+name)))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-cache")
		switch path.Ext(name) {
		case ".html":
			h.Set("Content-Type", "text/html; charset=utf-8")
		case ".js":
			h.Set("Content-Type", "text/javascript; charset=utf-8")
		case ".css":
			h.Set("Content-Type", "text/css; charset=utf-8")
		}
		_, _ = w.Write(data) // a client that has gone needs no page
	}), nil
}
