// Package web is the page of the hub: built files, embedded, that read the API.
// They ask nothing of another host, so the page works without internet.
//
// The sources are in app (TypeScript, Preact, uPlot, Leaflet); `make page` builds
// them into dist, which is committed, so that Go users need no Node. `make
// test-ui` fails when the two disagree.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed dist
var files embed.FS

// Config says what the page may do beyond the hub. The zero value: nothing.
type Config struct {
	// Images are origins from which pictures may come: that of a tile server.
	Images []string
	// Frames are origins whose pages may show this one in a frame.
	Frames []string
}

// file is one file of the page, ready to be sent.
type file struct {
	kind         string
	plain, small []byte // small is plain by gzip; nil when that gains nothing
	tag          string
}

// Handler serves the page. It is safe for concurrent use.
func Handler(cfg Config) (http.Handler, error) {
	page, err := read()
	if err != nil {
		return nil, fmt.Errorf("embedded page: %w", err)
	}
	policy := strings.Join([]string{
		"default-src 'self'", list("img-src 'self'", cfg.Images), list("frame-ancestors 'self'", cfg.Frames),
		"base-uri 'none'", "form-action 'none'", "object-src 'none'",
	}, "; ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "this page is read only", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		f, ok := page[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		f.serve(w, r)
	}), nil
}

func list(directive string, origins []string) string {
	return strings.Join(append([]string{directive}, origins...), " ")
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // ask each time; the answer is mostly 304
	h.Set("ETag", f.tag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Content-Type", f.kind)
	if strings.Contains(r.Header.Get("If-None-Match"), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if f.small != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.small
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // a browser that has gone needs no answer
}

// read takes the files into memory, compressed once.
func read() (map[string]*file, error) {
	page := map[string]*file{}
	err := fs.WalkDir(files, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f := &file{kind: mime.TypeByExtension(path.Ext(name))}
		if f.plain, err = files.ReadFile(name); err != nil {
			return err
		}
		sum := sha256.Sum256(f.plain)
		f.tag = `"` + hex.EncodeToString(sum[:12]) + `"`
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err = z.Write(f.plain); err == nil {
			err = z.Close()
		}
		if b.Len() < len(f.plain)*9/10 {
			f.small = b.Bytes()
		}
		page[strings.TrimPrefix(name, "dist/")] = f
		return err
	})
	return page, err
}
