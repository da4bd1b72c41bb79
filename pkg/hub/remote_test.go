package hub

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/api"
)

func TestARemoteHubIsReadPageByPageWithAToken(t *testing.T) {
	const pages = 3
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer lbt_right" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		n := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("cursor"), &n)
		next := ""
		if n+1 < pages {
			next = fmt.Sprintf(`, "next": "%d"`, n+1)
		}
		_, _ = fmt.Fprintf(w, `{"items": [{"edge": "e%d"}]%s}`, n, next)
	}))
	defer s.Close()
	defer http.DefaultClient.CloseIdleConnections()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("lbt_right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := remote{hub: s.URL + "/", token: file}
	list, err := listAll[api.Series](t.Context(), &r, "/api/v1/series")
	if err != nil || len(list) != pages || list[2].Edge != "e2" {
		t.Errorf("got %v %v", list, err)
	}
	r.client.CloseIdleConnections()
	t.Setenv(envToken, "lbt_wrong")
	r = remote{hub: s.URL}
	if _, err := listAll[api.Series](t.Context(), &r, "/api/v1/series"); err == nil || !strings.Contains(err.Error(), "langbiang-hub tokens new") {
		t.Errorf("error %v", err)
	}
	r.client.CloseIdleConnections()
	for says, bad := range map[string]remote{
		"--token-file": {hub: s.URL, token: file + "x"}, "--ca-file": {hub: s.URL, ca: file + "x"}, "no certificate": {hub: s.URL, ca: file},
	} {
		if _, err := listAll[api.Series](t.Context(), &bad, "/"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
