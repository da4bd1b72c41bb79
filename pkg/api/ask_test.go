package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// scripted answers with what the test says.
type scripted struct {
	texts []string
	out   Answered
	err   error
	got   Question
	block bool
}

func (s *scripted) Ask(ctx context.Context, _ string, q Question, show func(string) error) (Answered, error) {
	s.got = q
	for _, text := range s.texts {
		if err := show(text); err != nil {
			return s.out, err
		}
	}
	if s.block {
		<-ctx.Done()
		return s.out, ctx.Err()
	}
	return s.out, s.err
}

func askedOf(t *testing.T, s *scripted, body string, done <-chan struct{}) *httptest.ResponseRecorder {
	t.Helper()
	h := everything()
	h.cfg.Asking, h.cfg.Done = s, done
	h.cfg.Identify = byHeader
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/edges/lac-duong-01/ask", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Role", string(Technician))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAnAnswerComesAsLinesOfJSON(t *testing.T) {
	s := &scripted{texts: []string{"ok    clock\n", "MEND  disk\n"}, out: Answered{Failed: "1 thing to mend", Metered: true, Messages: 3, Bytes: 900}}
	w := askedOf(t, s, `{"kind":"doctor","for":"30s"}`, nil)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != ndjsonType {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := `{"text":"ok    clock\n"}
{"text":"MEND  disk\n"}
{"answered":{"failed":"1 thing to mend","metered":true,"messages":3,"bytes":900,"took_ms":0}}
`
	if w.Body.String() != want {
		t.Errorf("%s", w.Body)
	}
	if s.got.Kind != "doctor" || s.got.Length != 30*time.Second || s.got.Who != "Lan" {
		t.Errorf("%+v", s.got)
	}
}

func TestWhyAnAnswerDoesNotBeginOrEndsEarly(t *testing.T) {
	gone := &Refusal{Status: http.StatusConflict, What: "the edge is not connected; it was last heard 5m0s ago"}
	for name, c := range map[string]struct {
		s      scripted
		body   string
		status int
		says   string
	}{
		"not connected":             {scripted{err: gone}, `{"kind":"doctor"}`, http.StatusConflict, "last heard 5m0s ago"},
		"in the middle":             {scripted{texts: []string{"x"}, err: gone}, `{"kind":"doctor"}`, http.StatusOK, `"error":"the edge is not connected; it was last heard 5m0s ago"`},
		"ours":                      {scripted{err: errors.New("secret")}, `{"kind":"doctor"}`, http.StatusInternalServerError, "its log says why"},
		"ours, in the middle":       {scripted{texts: []string{"x"}, err: errors.New("secret")}, `{"kind":"doctor"}`, http.StatusOK, "its log says why"},
		"a time that is none":       {scripted{}, `{"kind":"log","for":"soon"}`, http.StatusBadRequest, "write it as 30s or 5m"},
		"too long":                  {scripted{}, `{"kind":"log","for":"11m"}`, http.StatusBadRequest, "10m at most"},
		"a field that is not known": {scripted{}, `{"kind":"log","lines":3}`, http.StatusBadRequest, "unknown field"},
	} {
		w := askedOf(t, &c.s, c.body, nil)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestAHubThatStopsEndsAnswers(t *testing.T) {
	done := make(chan struct{})
	close(done)
	w := askedOf(t, &scripted{texts: []string{"x"}, block: true}, `{"kind":"log"}`, done)
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	var last AnswerLine
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !strings.Contains(last.Error, "the hub stops") {
		t.Errorf("%s, %v", w.Body, err)
	}
}
