package push

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func zipped(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBodiesThatAreNoLines(t *testing.T) {
	r := newRig(t, Config{ID: "s", Site: "1", Device: "{host}", MaxRows: 1000})
	for name, c := range map[string]struct {
		body   string
		header []string
		code   int
		detail string
	}{
		"a bomb":           {zipped(t, make([]byte, maxText+1)), []string{"Content-Encoding", "gzip"}, 413, "more than 64 MiB once decompressed"},
		"no gzip":          {"a b=1", []string{"Content-Encoding", "gzip"}, 400, "the header says gzip, and it is not"},
		"gzip, cut off":    {zipped(t, []byte("a b=1"))[:20], []string{"Content-Encoding", "gzip"}, 400, "damaged"},
		"another encoding": {"a b=1", []string{"Content-Encoding", "br"}, 415, "send gzip or none"},
		"JSON":             {"{}", []string{"Content-Type", "application/json"}, 415, "is not line protocol"},
		"too large":        {strings.Repeat("a b=1\n", maxBody/6+1), nil, 413, "more than 16 MiB; send in smaller parts"},
		"too many rows":    {zipped(t, bytes.Repeat([]byte("a b=1\n"), 1001)), []string{"Content-Encoding", "gzip"}, 413, "nothing was taken"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, p := r.post("/api/v2/write", c.body, c.header...); code != c.code || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("%d %+v", code, p)
			}
		})
	}
	if got, _ := r.committed(); len(got) != 0 {
		t.Errorf("%d rows were taken", len(got))
	}
	if code, _ := r.post("/api/v2/write", zipped(t, []byte("a b=1")), "Content-Encoding", "gzip"); code != http.StatusNoContent {
		t.Errorf("gzip: %d", code)
	}
	if code, _ := r.post("/api/v2/write", ""); code != http.StatusNoContent {
		t.Errorf("an empty body: %d", code)
	}
}

func TestWhoMayWrite(t *testing.T) {
	a := newRig(t, Config{ID: "a", Site: "1", Device: "{host}", Token: "0123456789abcdef-a"})
	b := newRig(t, Config{ID: "b", Site: "1", Device: "{host}"})
	c := newRig(t, Config{ID: "c", Site: "1", Device: "{host}"})
	h := NewHandler([]*Source{a.Source, b.Source, c.Source}, "test", nil, slog.New(slog.DiscardHandler))
	far := func(q *http.Request) *http.Request { q.RemoteAddr = "192.0.2.1:9"; return q }
	basic := request("/write", "x v=1")
	basic.SetBasicAuth("anybody", "0123456789abcdef-a")
	for name, q := range map[string]struct {
		r    *http.Request
		want int
		to   *rig
	}{
		"token":                  {far(request("/api/v2/write", "x v=1", "Authorization", "Token 0123456789abcdef-a")), 204, a},
		"bearer":                 {far(request("/api/v2/write", "x v=1", "Authorization", "Bearer 0123456789abcdef-a")), 204, a},
		"basic":                  {far(basic), 204, a},
		"as 1.x":                 {far(request("/write?u=x&p=0123456789abcdef-a&db=d", "x v=1")), 204, a},
		"user and password":      {far(request("/api/v2/write", "x v=1", "Authorization", "Token u:0123456789abcdef-a")), 204, a},
		"no token":               {far(request("/api/v2/write?bucket=b", "x v=1")), 401, nil},
		"another token":          {far(request("/api/v2/write?bucket=a", "x v=1", "Authorization", "Token 0123456789abcdef")), 401, nil},
		"from here, by bucket":   {request("/api/v2/write?bucket=b", "x v=1"), 204, b},
		"from here, by source":   {request("/api/v1/push?source=c", "\x00", "Content-Type", "application/x-protobuf"), 204, nil},
		"from here, by database": {request("/write?db=c", "x v=1"), 204, c},
		"from here, by nothing":  {request("/write", "x v=1"), 404, nil},
		"one with a token":       {request("/write?db=a", "x v=1"), 404, nil},
	} {
		t.Run(name, func(t *testing.T) {
			before := uint64(0)
			if q.to != nil {
				before = q.to.Stats().Rows
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, q.r)
			if w.Code != q.want {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if q.to != nil && q.to.Stats().Rows != before+1 {
				t.Error("it went elsewhere")
			}
		})
	}
	none := NewHandler(nil, "test", nil, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	none.ServeHTTP(w, request("/api/v2/write", "x v=1"))
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "add push.sources to hub.yaml") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestClientsAskWhetherTheServerIsThere(t *testing.T) {
	h := NewHandler(nil, "1.0", nil, slog.New(slog.DiscardHandler))
	for path, want := range map[string]string{"/ping": "", "/health": `"status":"pass"`} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code > 299 || !strings.Contains(w.Body.String(), want) || path == "/ping" && w.Header().Get("X-Influxdb-Version") == "" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// A sender whose body never comes costs a place among the source's own, and nobody
// else's time.
func TestASlowUploadHoldsUpNobody(t *testing.T) {
	r := newRig(t, Config{})
	server := httptest.NewUnstartedServer(r.handler)
	server.Config.ReadTimeout = 2 * time.Second
	server.Start()
	defer server.Close()
	var slow []net.Conn
	for range maxUploads - 1 {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, "POST /write HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000\r\n\r\na b="); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	resp, err := http.Post(server.URL+"/write", "text/plain", strings.NewReader("a b=1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("%d", resp.StatusCode)
	}
	for _, c := range slow { // told, or cut off, when the time is over
		_, _ = io.Copy(io.Discard, c)
	}
	if got, _ := r.committed(); len(got) != 1 {
		t.Errorf("%d rows", len(got))
	}
}
