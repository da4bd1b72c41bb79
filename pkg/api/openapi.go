package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// operation describes a resource for the OpenAPI document. Bodies and answers are
// described by a value of their Go type.
type operation struct {
	tag     string
	summary string
	query   []parameter
	body    any    // nil: none
	answer  any    // nil: see media
	media   string // of an answer that is no JSON document, or of a stream of them
	local   bool   // from the hub's own machine only
}

type parameter struct {
	name, what string
	schema     map[string]any // nil: a text
}

// The query parameters that several resources have.
var (
	pageParameters = []parameter{
		{"limit", "How many items, 1 to 1000; 100 when not said.", map[string]any{"type": "integer", "minimum": 1, "maximum": maxLimit}},
		{"cursor", "The next of the page before, as it stands.", nil},
	}
	alertParameters = []parameter{
		{"state", "active or cleared.", nil},
		{"isa_state", "States by ISA-18.2, with commas.", nil},
		{"severity", "Severities, with commas.", nil},
		{"site", "Sites, with commas.", nil},
		{"rule", "Rules, with commas.", nil},
		{"test", "true: tests only; false: without them.", nil},
	}
	spanParameters   = []parameter{{"from", "RFC 3339.", nil}, {"to", "RFC 3339.", nil}}
	exportParameters = parameters(texts("match[]", "match", "format"), spanParameters)
	readParameters   = []parameter{
		{"after", "The id of the event seen last; 0: from the oldest entry; without it: from now on.", nil},
		{"site", "Sites, with commas.", nil},
		{"group", "Groups of sites, with commas.", nil},
		{"severity", "Severities, with commas. An alert that was wanted once stays wanted.", nil},
		{"rule", "Rules, with commas.", nil},
		{"state", "active or cleared.", nil},
		{"test", "true: tests only; false: without them.", nil},
	}
)

func parameters(lists ...[]parameter) []parameter { return slices.Concat(lists...) }

func texts(names ...string) (out []parameter) {
	for _, n := range names {
		out = append(out, parameter{name: n})
	}
	return out
}

// operations describes what is mounted with [Handler.handle], by METHOD PATH.
func operations() map[string]operation {
	return map[string]operation{
		"GET /api/v1/alerts":              {tag: "alerts", summary: "Alerts, newest start first", query: parameters(alertParameters, spanParameters, pageParameters), answer: page[alert.Alert]{}},
		"GET /api/v1/alerts/{id}":         {tag: "alerts", summary: "One alert as it is now", answer: alert.Alert{}},
		"GET /api/v1/alerts/{id}/entries": {tag: "alerts", summary: "The history of an alert, oldest first", query: pageParameters, answer: page[alert.Entry]{}},
		"GET /api/v1/alerts/{id}/cap":     {tag: "alerts", summary: "An alert as a CAP 1.2 document, the newest of its documents", query: []parameter{{"sequence", "That of one entry.", nil}}, media: "application/cap+xml"},
		"GET /api/v1/cap":                 {tag: "alerts", summary: "An Atom feed of CAP 1.2 documents, of the newest alerts", query: alertParameters, media: "application/atom+xml"},
		"GET /api/v1/alerts/counts":       {tag: "alerts", summary: "How many alerts are active, by severity, site and rule", answer: alert.Counts{}},
		"GET /api/v1/alerts/groups":       {tag: "alerts", summary: "What is active, by site and rule together", query: texts("site", "rule"), answer: page[alert.Group]{}},
		"GET /api/v1/alerts/statistics":   {tag: "alerts", summary: "How well the alerts serve people, by ISA-18.2; the last day when nothing is said", query: parameters(spanParameters, texts("site")), answer: alert.Statistics{}},

		"GET /api/v1/alerts/stream": {tag: "streams", summary: "The alert log as server-sent events, or as lines of JSON when these are accepted; resumed by Last-Event-ID or after", query: readParameters, answer: feed.Event{}, media: "text/event-stream"},
		"GET /api/v1/alerts/events": {tag: "streams", summary: "One page of the alert log as lines of JSON; the header Langbiang-Position is the next after", query: parameters(readParameters, pageParameters[:1], []parameter{{"wait", "How long to wait for the first event, 55s at most.", nil}}), answer: feed.Event{}, media: ndjsonType},

		"POST /api/v1/alerts/{id}/{act}": {tag: "acts", summary: "Do something to an alert: acknowledge, unacknowledge, comment, assign, shelve, unshelve, close, reopen", body: actBody{}, answer: acted{}},
		"POST /api/v1/alerts/acts":       {tag: "acts", summary: "One act on many alerts", body: actBody{}, answer: page[bulkItem]{}},
		"GET /api/v1/holds":              {tag: "acts", summary: "What keeps alerts from calling people", query: texts("ended", "kind"), answer: page[alert.Hold]{}},
		"POST /api/v1/holds":             {tag: "acts", summary: "Begin or change a hold", body: holdBody{}, answer: alert.Hold{}},
		"POST /api/v1/holds/{id}/end":    {tag: "acts", summary: "End a hold", body: signed{}, answer: alert.Hold{}},

		"GET /api/v1/sites":                     {tag: "fleet", summary: "Sites with their worst active alert", query: pageParameters, answer: page[Site]{}},
		"GET /api/v1/edges":                     {tag: "fleet", summary: "Agents as the hub sees them", query: parameters(texts("site"), pageParameters), answer: page[Edge]{}},
		"GET /api/v1/devices":                   {tag: "fleet", summary: "Devices: up, or why not", query: parameters(texts("site", "edge"), pageParameters), answer: page[Device]{}},
		"GET /api/v1/series":                    {tag: "fleet", summary: "Series with their newest value", query: parameters(texts("site", "edge", "device", "point", "quantity"), []parameter{{"rule", "Those that a rule watches.", nil}}, pageParameters), answer: page[Series]{}},
		"POST /api/v1/edges/{id}/ask":           {tag: "fleet", summary: "Ask an agent: doctor, status, why, read, log, trace; answers with lines of JSON as the text arrives", body: Question{}, answer: AnswerLine{}, media: ndjsonType},
		"GET /api/v1/edges/{id}/config":         {tag: "fleet", summary: "What an edge is to run, and how it stands with that; the ETag is for If-Match", query: []parameter{{"version", "The document of an earlier version.", nil}}, answer: EdgeConfig{}},
		"PUT /api/v1/edges/{id}/config":         {tag: "fleet", summary: "Let an edge run a document: filters, connections and devices as in edge.yaml. 412 when somebody has changed it since the ETag in If-Match, 428 without that header where there is something to overwrite (*: whatever it is), 422 with faults (file, line, column, message) when it has mistakes", query: []parameter{{"dry_run", "true: judge the document and change nothing.", nil}}, body: ConfigChange{}, answer: ConfigResult{}},
		"DELETE /api/v1/edges/{id}/config":      {tag: "fleet", summary: "Want nothing of an edge any more; it goes on with what it runs", query: []parameter{{"who", "For the history, where a machine asks for a person.", nil}, {"why", "For the history.", nil}}},
		"GET /api/v1/edges/{id}/config/history": {tag: "fleet", summary: "Who set what, newest first", query: pageParameters, answer: page[ConfigVersion]{}},
		"GET /api/v1/edges/{id}/config/running": {tag: "fleet", summary: "Ask an edge for what it has: its own file's part where that counts or was changed", answer: RunningConfig{}},
		"POST /api/v1/edges/{id}/config/adopt":  {tag: "fleet", summary: "Let an edge run what it has", body: signed{}, answer: ConfigResult{}},
		"POST /api/v1/edges/{id}/forget":        {tag: "fleet", summary: "Let the hub forget where it stands in the log of an edge", answer: map[string]string{}, local: true},
		"GET /api/v1/rules":                     {tag: "rules", summary: "Rules and what they match", query: pageParameters, answer: page[Rule]{}},
		"GET /api/v1/rules/status":              {tag: "rules", summary: "The rule sets in force, and how the last reading of the files went", answer: RulesStatus{}},
		"POST /api/v1/rules/reload":             {tag: "rules", summary: "Read the rule files anew", answer: RulesStatus{}, local: true},
		"POST /api/v1/rules/{id}/test":          {tag: "rules", summary: "Raise a test alert", body: Fire{}, answer: alert.Entry{}, local: true},
		"POST /api/v1/rules/{id}/backtest":      {tag: "rules", summary: "Try other limits of a rule against history", body: Backtest{}, answer: BacktestResult{}},

		"GET /api/v1/deliveries":               {tag: "deliveries", summary: "How it stands with every target that alerts are carried to", answer: page[feed.Delivery]{}},
		"GET /api/v1/deliveries/dead":          {tag: "deliveries", summary: "Entries that were skipped, newest first", query: parameters(texts("target"), pageParameters), answer: page[feed.DeadLetter]{}},
		"POST /api/v1/deliveries/{name}/skip":  {tag: "deliveries", summary: "Skip the entry that the target refuses", body: deliveryBody{}, answer: feed.Delivery{}},
		"POST /api/v1/deliveries/{name}/retry": {tag: "deliveries", summary: "Let a target that waits try at once", body: deliveryBody{}, answer: feed.Delivery{}},
		"POST /api/v1/deliveries/{name}/test":  {tag: "deliveries", summary: "Send a test", body: deliveryBody{}, answer: probed{}, local: true},
		"GET /api/v1/notices":                  {tag: "deliveries", summary: "Receipts of what people were told, newest first", query: parameters(texts("route", "alert", "person", "channel"), pageParameters), answer: page[feed.Receipt]{}},

		"POST /api/v1/session":            {tag: "access", summary: "Sign in, with name and password or with the token of a screen; the answer sets a cookie", body: Login{}, answer: sessionAnswer{}},
		"DELETE /api/v1/session":          {tag: "access", summary: "Sign out"},
		"GET /api/v1/session":             {tag: "access", summary: "Who asks, and what they may", answer: sessionAnswer{}},
		"POST /api/v1/session/password":   {tag: "access", summary: "Change one's own password", body: ownPasswordBody{}},
		"GET /api/v1/users":               {tag: "access", summary: "Those who sign in", query: pageParameters, answer: page[User]{}},
		"PUT /api/v1/users/{name}":        {tag: "access", summary: "Make or change somebody who signs in", body: userBody{}},
		"DELETE /api/v1/users/{name}":     {tag: "access", summary: "Take somebody away"},
		"GET /api/v1/tokens":              {tag: "access", summary: "Tokens of machines and screens", query: pageParameters, answer: page[Token]{}},
		"POST /api/v1/tokens":             {tag: "access", summary: "Make a token; its text is shown once", body: Token{}, answer: newToken{}},
		"DELETE /api/v1/tokens/{id}":      {tag: "access", summary: "Make a token void"},
		"GET /api/v1/setup":               {tag: "access", summary: "Whether the hub waits for its first administrator", answer: setupAnswer{}},
		"POST /api/v1/setup":              {tag: "access", summary: "Make the first administrator, with the secret of the setup link", body: Setup{}},
		"GET /api/v1/audit":               {tag: "access", summary: "What people and machines did, newest first", query: pageParameters, answer: page[AuditEntry]{}},
		"POST /api/v1/edges/tokens":       {tag: "fleet", summary: "Make a token that lets the gateway of an edge in, with the line to paste there", body: EdgeToken{}, answer: EdgeToken{}},
		"POST /api/v1/edges/{id}/revoke":  {tag: "fleet", summary: "Let the gateway of an edge no longer in, at once", answer: map[string]any{}},
		"GET /api/v1/edges/certificates":  {tag: "fleet", summary: "Gateways that were enrolled, and until when their certificates hold", query: pageParameters, answer: page[EdgeCertificate]{}},
		"POST /api/v1/enrol":              {tag: "fleet", summary: "For langbiang-edge: a certificate for a token", body: map[string]any{}, answer: map[string]any{}},
		"POST /api/v1/enrol/renew":        {tag: "fleet", summary: "For langbiang-edge: another certificate for the one that the connection shows", body: map[string]any{}, answer: map[string]any{}},
		"GET /api/v1/enrol/authority.pem": {tag: "fleet", summary: "The hub's authority, for browsers that are to trust it", media: "application/x-pem-file"},

		"GET /api/v1/page":          {tag: "hub", summary: "What the page must know of the configuration", answer: PageSettings{}},
		"GET /api/v1/page/outlines": {tag: "hub", summary: "Outlines of the sites", media: "application/geo+json"},
		"GET /api/v1/openapi.json":  {tag: "hub", summary: "This document", answer: map[string]any{}},
		"POST /api/v1/backup":       {tag: "hub", summary: "Write a backup; answers with lines of progress", body: backupBody{}, answer: BackupProgress{}, media: ndjsonType, local: true},
		"GET /api/v1/store":         {tag: "data", summary: "What is kept and for how long", answer: StoreStatus{}},
		"GET /api/v1/texts":         {tag: "data", summary: "Texts that devices said, newest first", query: parameters(texts("site", "edge", "device", "point", "quantity"), spanParameters, pageParameters), answer: page[Text]{}},
		"GET /api/v1/export":        {tag: "data", summary: "Series as CSV or lines of JSON, see docs/api.md#exports", query: exportParameters, media: "text/csv"},
		"POST /api/v2/write":        {tag: "data", summary: "Push line protocol, as InfluxDB v2 takes it", media: "text/plain"},
		"POST /write":               {tag: "data", summary: "Push line protocol, as InfluxDB v1 takes it", media: "text/plain"},
		"POST /api/v1/push":         {tag: "data", summary: "Push Prometheus remote write", media: "text/plain"},
		"GET /ping":                 {tag: "data", summary: "For clients of InfluxDB", media: "text/plain"},
		"GET /health":               {tag: "data", summary: "For clients of InfluxDB", media: "text/plain"},
		"GET /metrics":              {tag: "hub", summary: "Metrics of the hub, for Prometheus", media: "text/plain"},
		"GET /healthz":              {tag: "hub", summary: "ok while the process serves", media: "text/plain"},
		"GET /readyz":               {tag: "hub", summary: "ready, or 503 with the reason", media: "text/plain"},
	}
}

// backupBody is the body of a request for a backup.
type backupBody struct {
	Dir string `json:"dir"`
}

// signed is a body with a name and a reason.
type signed struct {
	Who string `json:"who"`
	Why string `json:"why"`
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

// openAPI writes the document of the routes.
func openAPI(routes []string) map[string]any {
	s := &schemas{defs: map[string]any{}}
	paths := map[string]any{}
	known := operations()
	for _, route := range routes {
		op, ok := known[route]
		if !ok {
			continue // a test names it
		}
		method, path, _ := strings.Cut(route, " ")
		item, _ := paths[path].(map[string]any)
		if item == nil {
			item = map[string]any{}
			paths[path] = item
		}
		item[strings.ToLower(method)] = s.operation(&op, path)
	}
	s.defs["problem"] = map[string]any{
		"type": "object", "description": "RFC 9457", "required": []string{"type", "title", "status", "detail", "instance"},
		"properties": map[string]any{"type": text(), "title": text(), "status": map[string]any{"type": "integer"}, "detail": text(), "instance": text()},
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Langbiang hub", "version": "1", "license": map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Lists answer items and, unless it was the last page, next: give it back as cursor. An unknown parameter or field is an error. Errors are RFC 9457 problem documents. Times are RFC 3339.",
		},
		"servers": []any{map[string]any{"url": "/"}}, "paths": paths, "components": map[string]any{"schemas": s.defs},
	}
}

func text() map[string]any { return map[string]any{"type": "string"} }

func (s *schemas) operation(op *operation, path string) map[string]any {
	o := map[string]any{"tags": []string{op.tag}, "summary": op.summary}
	if op.local {
		o["description"] = "From the hub's own machine only."
	}
	params := []any{}
	for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
		params = append(params, map[string]any{"name": m[1], "in": "path", "required": true, "schema": text()})
	}
	for _, p := range op.query {
		schema := p.schema
		if schema == nil {
			schema = text()
		}
		x := map[string]any{"name": p.name, "in": "query", "schema": schema}
		if p.what != "" {
			x["description"] = p.what
		}
		params = append(params, x)
	}
	if len(params) > 0 {
		o["parameters"] = params
	}
	if op.body != nil {
		o["requestBody"] = map[string]any{"required": true, "content": map[string]any{"application/json": map[string]any{"schema": s.of(reflect.TypeOf(op.body), true)}}}
	}
	media := op.media
	if media == "" {
		media = "application/json"
	}
	content := map[string]any{}
	if op.answer != nil {
		content["schema"] = s.of(reflect.TypeOf(op.answer), false)
	}
	o["responses"] = map[string]any{
		"200":     map[string]any{"description": "It is done.", "content": map[string]any{media: content}},
		"default": map[string]any{"description": "It is not.", "content": map[string]any{"application/problem+json": map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/problem"}}}},
	}
	return o
}

// schemas gathers the JSON Schemas of Go types by name.
type schemas struct{ defs map[string]any }

var (
	typeTime     = reflect.TypeFor[time.Time]()
	typeRaw      = reflect.TypeFor[json.RawMessage]()
	typeSeverity = reflect.TypeFor[alert.Severity]()
	typePosition = reflect.TypeFor[feed.Position]()
)

// of returns the schema of a type. A body has no required fields: what must be
// there depends on the rest, and is said when it is missing.
func (s *schemas) of(t reflect.Type, body bool) map[string]any {
	switch t {
	case typeTime:
		return map[string]any{"type": "string", "format": "date-time"}
	case typeRaw:
		return map[string]any{}
	case typeSeverity:
		return map[string]any{"type": "string", "enum": []string{"", "info", "warning", "critical", "emergency"}}
	case typePosition:
		return text()
	}
	switch t.Kind() { //nolint:exhaustive // the others stand in no answer
	case reflect.Pointer:
		return map[string]any{"anyOf": []any{s.of(t.Elem(), body), map[string]any{"type": "null"}}}
	case reflect.String:
		return text()
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem(), body)}
	case reflect.Map:
		// Null: of alerts that were written before there was such a field.
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem(), body)}
	case reflect.Struct:
		return s.structure(t, body)
	case reflect.Interface:
		return map[string]any{}
	}
	return map[string]any{"type": "integer"}
}

var notName = regexp.MustCompile(`[^A-Za-z0-9]+`)

func (s *schemas) structure(t reflect.Type, body bool) map[string]any {
	name := notName.ReplaceAllString(regexp.MustCompile(`[\w.-]+/`).ReplaceAllString(t.String(), ""), "_")
	name = strings.Trim(name, "_")
	if body {
		name += "_body"
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if s.defs[name] != nil {
		return ref
	}
	def := map[string]any{"type": "object"}
	s.defs[name] = def // before its fields: types may hold themselves
	properties, required := map[string]any{}, []string{}
	s.fields(t, body, properties, &required)
	def["properties"], def["additionalProperties"] = properties, false
	if !body && len(required) > 0 {
		def["required"] = required
	}
	return ref
}

func (s *schemas) fields(t reflect.Type, body bool, properties map[string]any, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			s.fields(f.Type, body, properties, required)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		properties[name] = s.of(f.Type, body)
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			*required = append(*required, name)
		}
	}
}

// mountOpenAPI mounts the document, written once all routes are known, and a page
// that shows it.
func (h *Handler) mountOpenAPI() {
	document := sync.OnceValue(func() map[string]any { return openAPI(h.routes) })
	h.handle("GET /api/v1/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		if h.allow(w, r) {
			h.json(w, r, document())
		}
	})
	// The page is one file; its script and style are named by what they hold.
	policy := "default-src 'none'; script-src '" + hashOf(browser, "script") + "'; style-src '" + hashOf(browser, "style") + "'; connect-src 'self'; frame-ancestors 'self'"
	show := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write(browser) // a browser that has gone needs no answer
	}
	h.mount("GET /api", show)
	h.mount("GET /api/{$}", show)
}

// hashOf names the only element of that tag in a page as a content security policy
// does.
func hashOf(page []byte, tag string) string {
	_, rest, _ := bytes.Cut(page, []byte("<"+tag+">"))
	text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
