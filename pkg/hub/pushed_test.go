package hub

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/identity"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// A token of role source writes into its source and no other, in every way that
// InfluxDB's clients show one; no token of another role writes; and it reads nothing.
func TestASourcesTokenPushesIntoItsSourceAndDoesNothingElse(t *testing.T) {
	f := newFortress(t, `push: {sources: [{id: hall, site: "24848"}, {id: yard, site: "24848"}]}`+"\n")
	admin := f.admin()
	token := func(role, source string) (text, id string) {
		t.Helper()
		var made struct{ Text, ID string }
		if err := json.Unmarshal([]byte(admin.wants(http.StatusOK, "POST", "/api/v1/tokens", map[string]string{"name": role + source, "role": role, "source": source})), &made); err != nil {
			t.Fatal(err)
		}
		return made.Text, made.ID
	}
	hall, hallID := token("source", "hall")
	rows, now := 0, time.Now().UnixMilli()
	write := func(want int, says, path, authorization string, header ...string) {
		t.Helper()
		rows++
		text := f.somebody().wants(want, "POST", path, fmt.Sprintf("water_level,host=h value=%d %d", rows, now+int64(rows)),
			append([]string{"Authorization", authorization, "Content-Type", "text/plain"}, header...)...)
		if !strings.Contains(text, says) {
			t.Errorf("%s as %q says %s, want %q", path, authorization, text, says)
		}
	}
	const v2 = "/api/v2/write?precision=ms&bucket=yard" // what the token says counts, and no name
	away := []string{"X-Forwarded-For", "203.0.113.7"}  // and not the hub's own machine
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+hall))
	for _, way := range []struct{ path, authorization string }{
		{v2, "Token " + hall},
		{v2, "Bearer " + hall},
		{"/write?precision=ms&db=yard", "Token any:" + hall},
		{"/write?precision=ms&db=yard", basic},
		{"/write?precision=ms&db=yard&u=any&p=" + url.QueryEscape(hall), ""},
	} {
		write(http.StatusNoContent, "", way.path, way.authorization, away...)
	}
	taken := rows
	// A token for what is not there is not made; one for what is no longer there is void.
	if text := admin.wants(http.StatusUnprocessableEntity, "POST", "/api/v1/tokens", map[string]string{"name": "x", "role": "source", "source": "attic"}); !strings.Contains(text, "push.sources of hub.yaml") {
		t.Error(text)
	}
	gone, _, err := f.access.users.NewToken(identity.Token{Name: "x", Role: identity.RoleSource, Source: "attic"})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"Token ", "Bearer "} {
		for _, header := range [][]string{nil, away} {
			for _, role := range []string{"viewer", "operator", "technician", "admin"} {
				text, _ := token(role, "")
				write(http.StatusForbidden, "this token does not push", v2, kind+text, header...)
			}
			write(http.StatusNotFound, "attic", v2, kind+gone, header...)
		}
		write(http.StatusUnauthorized, "no such token", v2, kind+hall+"x", away...)
	}

	// It is for writing alone: whatever there is to read needs somebody else.
	source := f.somebody()
	source.bearer = hall
	var doc struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal([]byte(admin.wants(http.StatusOK, "GET", "/api/v1/openapi.json", nil)), &doc); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/", "/api", "/metrics", "/prometheus/api/v1/query?query=water_level", "/prometheus/api/v1/labels", "/api/v1/users", "/api/v1/tokens", "/api/v1/audit"}
	for path, methods := range doc.Paths {
		if methods["get"] != nil {
			paths = append(paths, strings.NewReplacer("{id}", "x", "{name}", "x").Replace(path))
		}
	}
	if len(paths) < 25 {
		t.Fatalf("only %d paths to read: %v", len(paths), paths)
	}
	anyones := []string{"/healthz", "/readyz", "/ping", "/health", "/api/v1/setup", "/api/v1/enrol/authority.pem"}
	for _, path := range paths {
		if slices.Contains(anyones, path) {
			continue
		}
		source.wants(http.StatusForbidden, "GET", path, nil)
	}

	// What was written stands in its source, and nothing in the other.
	count := func(edge string) (n int) {
		var answer struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		q := url.QueryEscape(fmt.Sprintf(`count_over_time(water_level{edge=%q}[1h])`, edge))
		at := fmt.Sprintf("&time=%d", now/1000+10)
		if err := json.Unmarshal([]byte(admin.wants(http.StatusOK, "GET", "/prometheus/api/v1/query?query="+q+at, nil)), &answer); err != nil {
			t.Fatal(err)
		}
		for _, r := range answer.Data.Result {
			var k int
			_, _ = fmt.Sscan(fmt.Sprint(r.Value[1]), &k)
			n += k
		}
		return n
	}
	testutil.Eventually(t, time.Minute, "what the source was told is taken is stored", func() bool { return count("hall") == taken })
	if n := count("yard"); n != 0 {
		t.Errorf("%d samples in the other source", n)
	}
	// It is void at once.
	admin.wants(http.StatusNoContent, "DELETE", "/api/v1/tokens/"+hallID, nil)
	write(http.StatusUnauthorized, "no such token", v2, "Token "+hall, away...)
}
