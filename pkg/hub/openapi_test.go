package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// described checks what a running hub answers against its own OpenAPI document.
type described struct {
	t        *testing.T
	base     string
	compiler *jsonschema.Compiler
	paths    map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema map[string]any }
		}
	}
}

func describe(t *testing.T, base string) *described {
	t.Helper()
	d := &described{t: t, base: base, compiler: jsonschema.NewCompiler()}
	d.compiler.AssertFormat()
	raw := d.bytes(http.MethodGet, "/api/v1/openapi.json", "")
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.compiler.AddResource("openapi.json", v); err != nil {
		t.Fatal(err)
	}
	var doc struct{ Paths json.RawMessage }
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc.Paths, &d.paths); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *described) bytes(method, path, body string) []byte {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, b)
	}
	return b
}

// check asks for a resource (pattern is its path in the document) and validates
// every JSON document of the answer.
func (d *described) check(method, pattern, path, body string) []byte {
	d.t.Helper()
	raw := d.bytes(method, path, body)
	for media, c := range d.paths[pattern][strings.ToLower(method)].Responses["200"].Content {
		if c.Schema == nil {
			continue
		}
		at := fmt.Sprintf("openapi.json#/paths/%s/%s/responses/200/content/%s/schema",
			strings.ReplaceAll(pattern, "/", "~1"), strings.ToLower(method), strings.ReplaceAll(media, "/", "~1"))
		schema, err := d.compiler.Compile(strings.NewReplacer("{", "%7B", "}", "%7D").Replace(at))
		if err != nil {
			d.t.Fatal(err)
		}
		for dec := json.NewDecoder(bytes.NewReader(raw)); dec.More(); {
			var one json.RawMessage
			if err := dec.Decode(&one); err != nil {
				d.t.Fatalf("%s: %v", path, err)
			}
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(one))
			if err == nil {
				err = schema.Validate(v)
			}
			if err != nil {
				d.t.Errorf("%s %s is not as described: %v\n%s", method, path, err, one)
			}
		}
		return raw
	}
	d.t.Errorf("%s %s has no described answer", method, pattern)
	return raw
}

func TestWhatTheHubAnswersIsAsDescribed(t *testing.T) {
	refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	t.Cleanup(refuse.Close)
	h := runHub(t, map[string]string{
		"hub.yaml": "data_dir: ./data\nrules: [./rules.yaml]\nsites: ./sites.yaml\ndeliver:\n  webhooks: [{name: ioc, url: \"" + refuse.URL + "\", allow_private: true}]\n" +
			"  people:\n    contacts: [{name: Lan, at: {sms: '1'}}]\n    channels: [{name: sms, http: {url: \"" + refuse.URL + "\", allow_private: true}}]\n    routes: [{name: all, tell: [Lan], by: [sms]}]\n",
		"rules.yaml": levelRule, "sites.yaml": "sites:\n  - {id: dam-rong, name: {vi: Đam Rông}, lat: 12, lon: 108, edges: [e1]}\n",
	})
	f := levelFeeder(t, h, "e1")
	now := time.Now()
	for i, v := range []float64{1, 1, 9, 9, 9} {
		f.say(t, now.Add(time.Duration(i)*time.Second), v)
	}
	var id string
	testutil.Eventually(t, time.Minute, "an alert stands", func() bool {
		for _, a := range f.alerts(t) {
			id = a.ID
		}
		return id != ""
	})
	d := describe(t, "http://"+h.Addr())
	testutil.Eventually(t, time.Minute, "the webhook is held and a receipt is there", func() bool {
		receipts, err := h.ledger.Receipts(nil, 0, 10)
		return err == nil && len(receipts) > 0 && h.deliveries.all()[0].State == feed.Held
	})
	get := func(pattern, query string) []byte {
		t.Helper()
		return d.check(http.MethodGet, pattern, strings.NewReplacer("{id}", id).Replace(pattern)+query, "")
	}
	get("/api/v1/alerts", "?state=active")
	get("/api/v1/alerts/{id}", "")
	d.check(http.MethodPost, "/api/v1/alerts/{id}/{act}", "/api/v1/alerts/"+id+"/comment", `{"who":"Lan","text":"xem","key":"k"}`)
	d.check(http.MethodPost, "/api/v1/alerts/{id}/{act}", "/api/v1/alerts/"+id+"/shelve", `{"who":"Lan","for":"1h"}`)
	d.check(http.MethodPost, "/api/v1/alerts/acts", "/api/v1/alerts/acts", `{"act":"acknowledge","alerts":["`+id+`","none"],"who":"Lan"}`)
	var hold alert.Hold
	if err := json.Unmarshal(d.check(http.MethodPost, "/api/v1/holds", "/api/v1/holds", `{"kind":"maintenance","site":"dam-rong","for":"1h","who":"Lan"}`), &hold); err != nil {
		t.Fatal(err)
	}
	d.check(http.MethodPost, "/api/v1/holds/{id}/end", "/api/v1/holds/"+hold.ID+"/end", `{"who":"Lan"}`)
	get("/api/v1/holds", "?ended=true")
	for _, p := range []string{"/entries", "/counts", "/groups", "/statistics", "/events"} {
		pattern := "/api/v1/alerts" + p
		if p == "/entries" {
			pattern = "/api/v1/alerts/{id}/entries"
		}
		query := ""
		if p == "/events" {
			query = "?after=0"
		}
		if b := get(pattern, query); len(b) < 10 {
			t.Errorf("%s: %s", pattern, b)
		}
	}
	for _, p := range []string{"sites", "edges", "devices", "series", "rules", "rules/status", "deliveries", "notices", "page"} {
		if b := get("/api/v1/"+p, ""); len(b) < 20 {
			t.Errorf("%s: %s", p, b)
		}
	}
	held := h.deliveries.all()[0]
	d.check(http.MethodPost, "/api/v1/deliveries/{name}/retry", "/api/v1/deliveries/ioc/retry", `{"who":"Lan"}`)
	d.check(http.MethodPost, "/api/v1/deliveries/{name}/test", "/api/v1/deliveries/ioc/test", `{"who":"Lan"}`)
	testutil.Eventually(t, time.Minute, "it is held again", func() bool { return h.deliveries.all()[0].State == feed.Held })
	d.check(http.MethodPost, "/api/v1/deliveries/{name}/skip", "/api/v1/deliveries/ioc/skip", fmt.Sprintf(`{"who":"Lan","sequence":%d}`, held.Held.Sequence))
	get("/api/v1/deliveries/dead", "")
	d.check(http.MethodPost, "/api/v1/rules/{id}/test", "/api/v1/rules/level/test", `{"series":"e1/gauge/level","who":"Lan"}`)
	d.check(http.MethodPost, "/api/v1/rules/reload", "/api/v1/rules/reload", `{}`)
	d.check(http.MethodPost, "/api/v1/edges/{id}/forget", "/api/v1/edges/e1/forget", `{}`)
	if b := d.bytes(http.MethodGet, "/api/v1/alerts/"+id+"/cap", ""); !bytes.Contains(b, []byte("<areaDesc>Đam Rông</areaDesc>")) {
		t.Errorf("%s", b)
	}
	http.DefaultClient.CloseIdleConnections()
}
