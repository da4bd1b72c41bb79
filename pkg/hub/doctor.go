package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/identity"
	"github.com/langbiang/langbiang/pkg/internal/doctor"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

func doctorCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "doctor", Short: "examine this hub: configuration, clock, disk, ports, certificates, rules, deliveries, edges, backup; each line ok or what to do",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			d := diagnosis{doctor.NewReport(c.Stdout), plan, time.Now()}
			d.examine(ctx, c)
			return d.End()
		},
	}
}

const (
	authorityAhead   = 90 * day // before its end somebody must think of a new one
	certificateAhead = 14 * day // by then a certificate that renews by itself has been
	backupAge        = 8 * day  // of the newest backup, when one is known: a week and some hours
	sleeperAway      = day      // an edge that sleeps is heard once a day
	maxFindings      = 10       // of a kind that are shown one by one
)

// diagnosis is the examination of a hub.
type diagnosis struct {
	*doctor.Report
	plan *Plan
	now  time.Time
}

func (d *diagnosis) examine(ctx context.Context, c settings.Call) {
	d.Say("version", nil, fmt.Sprintf("%s, %s/%s", c.Version, runtime.GOOS, runtime.GOARCH), "")
	var fault error
	if w := d.plan.Warnings; len(w) > 0 {
		fault = fmt.Errorf("%s: %s", settings.Count(len(w), "warning"), w[0].Error())
	}
	d.Say("config", fault, fmt.Sprintf("%s: %s, %s", c.Config, settings.Count(len(d.plan.Sites), "site"), settings.Count(d.plan.Set.Written().Len(), "rule")), "langbiang-hub check shows all")
	d.clock()
	d.disk()
	var page api.PageSettings
	err := ask(ctx, d.plan, "/api/v1/page", nil, &page)
	running := err == nil
	if err == nil && page.Version != c.Version {
		err = fmt.Errorf("it runs, version %s, and this program is %s", page.Version, c.Version)
		d.Say("hub", err, "", "systemctl restart langbiang-hub")
	} else {
		d.Say("hub", err, "it runs, version "+page.Version, "")
	}
	d.port(ctx, "http.listen", d.plan.Config.HTTP.Listen, running)
	d.port(ctx, "mqtt.listen", d.plan.Config.MQTT.Listen, running)
	d.authority(running)
	d.certificate()
	if running {
		d.ready(ctx)
		d.gateways(ctx)
		d.edges(ctx)
		d.rules(ctx)
		d.deliveries(ctx)
		d.backup(ctx)
	}
}

func (d *diagnosis) clock() {
	text := d.now.Format(time.RFC3339)
	ok, err := clock.Synchronised()
	switch {
	case !d.plan.Config.Clock.RequireSync:
		d.Say("clock", nil, text+", believed because clock.require_sync says false", "")
	case err != nil:
		d.Say("clock", fmt.Errorf("%s; the system cannot say whether it is synchronised: %w", text, err), "", "set clock.require_sync: false if you know it is")
	case !ok:
		d.Say("clock", errors.New(text+", not synchronised"), "", "start chrony or systemd-timesyncd, or set clock.require_sync: false if the machine's host keeps the time")
	default:
		d.Say("clock", nil, text+", synchronised", "")
	}
}

func (d *diagnosis) disk() {
	dir := doctor.Existing(d.plan.Config.DataDir)
	free, err := doctor.Free(dir)
	if err != nil {
		d.Say("disk", err, "", "is data_dir right?")
		return
	}
	text := fmt.Sprintf("%s free in %s", doctor.Size(free), dir)
	if least := int64(d.plan.Config.Store.MinFree); free < 2*least {
		err = fmt.Errorf("%s, and below %s (store.min_free) no reading is taken", text, doctor.Size(least))
	}
	d.Say("disk", err, text, "make room, or give store.max_size or store.retention less")
	took, err := doctor.FsyncTime(dir)
	if err != nil {
		d.Say("disk", err, "", "run this as the hub's user or as root; may the hub's user write there?")
		return
	}
	text = fmt.Sprintf("fsync takes %v", took.Round(100*time.Microsecond))
	if every := d.plan.Config.Ingest.CheckpointEvery; took > every/4 {
		err = fmt.Errorf("%s, and a checkpoint (ingest.checkpoint_every %v) needs several", text, every)
	}
	d.Say("disk", err, text, "is the disk busy, worn, or on a network? A hub wants an SSD of its own")
}

// port examines an address of a listener: the running hub holds it, or nobody does.
func (d *diagnosis) port(ctx context.Context, key, address string, running bool) {
	if !running {
		l, err := net.Listen("tcp", address)
		if err == nil {
			err = l.Close()
		}
		d.Say("port", wrapped(key, err), key+" "+address+" is free", "stop the program that has this address, or choose another")
		return
	}
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	dialer := net.Dialer{Timeout: 3 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close() // nothing was sent
	}
	d.Say("port", wrapped(key, err), key+" "+address+" takes connections", "the running hub does not listen where the configuration says; restart it")
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// ending judges until when a certificate holds.
func (d *diagnosis) ending(subject, what string, end time.Time, ahead time.Duration, todo string) {
	text := fmt.Sprintf("%s holds until %s", what, end.Format(time.DateOnly))
	var fault error
	switch left := end.Sub(d.now); {
	case left <= 0:
		fault = fmt.Errorf("%s ended on %s", what, end.Format(time.DateOnly))
	case left < ahead:
		fault = errors.New(text)
	}
	d.Say(subject, fault, text, todo)
}

func (d *diagnosis) authority(running bool) {
	files := identity.Files{Cert: d.plan.Config.Authority.Cert, Key: d.plan.Config.Authority.Key}
	if files.Cert == "" {
		dir := filepath.Join(d.plan.Config.DataDir, identityFolder)
		files = identity.Files{Cert: filepath.Join(dir, identity.AuthorityCert), Key: filepath.Join(dir, identity.AuthorityKey)}
		if _, err := os.Stat(files.Cert); errors.Is(err, fs.ErrNotExist) && !running {
			d.Say("authority", nil, "it is made at the first start", "")
			return
		}
	}
	cert, err := readCertificate(files.Cert)
	if err != nil {
		d.Say("authority", err, "", "run this as the hub's user or as root; restore it from a backup if it is gone")
		return
	}
	switch st, err := os.Stat(files.Key); {
	case err != nil:
		d.Say("authority", err, "", "restore the key from a backup, or every gateway must be enrolled anew")
		return
	case st.Mode().Perm()&0o077 != 0:
		d.Say("authority", fmt.Errorf("others may read the key %s (mode %#o)", files.Key, st.Mode().Perm()), "", "chmod 600 it")
		return
	}
	d.ending("authority", files.Cert, cert.NotAfter, authorityAhead, "plan a new authority: every gateway enrols anew with it, see docs/security.md")
}

func readCertificate(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return cert, wrapped(path, err)
}

// certificate examines what browsers are shown.
func (d *diagnosis) certificate() {
	c := &d.plan.Config.HTTP
	switch {
	case c.Cert != "":
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			d.Say("page", fmt.Errorf("http.cert: %w", err), "", "the files must be a certificate with its chain and its key, readable for the hub's user")
			return
		}
		d.ending("page", "http.cert "+c.Cert, pair.Leaf.NotAfter, certificateAhead, "renew it; the hub reads the file anew by itself")
	case d.plan.httpTLS():
		d.Say("page", nil, "with a certificate of the hub's own authority, which renews by itself", "")
	default:
		d.Say("page", nil, "plain text at "+c.Listen, "")
	}
}

func (d *diagnosis) ready(ctx context.Context) {
	d.Say("ready", request(ctx, d.plan, http.MethodGet, "/readyz", nil, nil), "it takes readings and serves", "langbiang_hub_store_full and the hub's log say more: journalctl -u langbiang-hub")
}

// all gets the items of every page of a list.
func all[T any](ctx context.Context, plan *Plan, path string) ([]T, error) {
	var items []T
	for cursor := ""; ; {
		var p struct {
			Items []T
			Next  string
		}
		if err := ask(ctx, plan, path+"?limit=1000"+cursor, nil, &p); err != nil {
			return items, err
		}
		items = append(items, p.Items...)
		if p.Next == "" {
			return items, nil
		}
		cursor = "&cursor=" + url.QueryEscape(p.Next)
	}
}

// finding is a fault of one of many, and what to do.
type finding struct {
	fault error
	todo  string
}

// many says what is wrong with some of many, or that nothing is.
func (d *diagnosis) many(subject string, err error, found []finding, text, more string) {
	if err != nil {
		d.Say(subject, err, "", "")
		return
	}
	for _, f := range found[:min(len(found), maxFindings)] {
		d.Say(subject, f.fault, "", f.todo)
	}
	if n := len(found) - maxFindings; n > 0 {
		d.Say(subject, fmt.Errorf("%d more", n), "", more)
	}
	if len(found) == 0 {
		d.Say(subject, nil, text, "")
	}
}

func (d *diagnosis) gateways(ctx context.Context) {
	list, err := all[api.EdgeCertificate](ctx, d.plan, "/api/v1/edges/certificates")
	var found []finding
	for i := range list {
		if c := &list[i]; c.Revoked == nil && c.NotAfter != nil && c.NotAfter.Sub(d.now) < certificateAhead {
			found = append(found, finding{
				fmt.Errorf("the certificate of %s ends on %s and was not renewed", c.Edge, c.NotAfter.Format(time.DateOnly)),
				"look at the gateway with langbiang-edge doctor; after that day it must be enrolled anew, or revoke it if it is gone",
			})
		}
	}
	d.many("gateways", err, found, settings.Count(len(list), "certificate")+", none about to end", "langbiang-hub edges certificates shows all")
}

func (d *diagnosis) edges(ctx context.Context) {
	list, err := all[api.Edge](ctx, d.plan, "/api/v1/edges")
	away := d.plan.Config.Offline.Warning
	if away == 0 {
		away = DefaultConfig().Offline.Warning
	}
	var found []finding
	for i := range list {
		e := &list[i]
		limit := away
		if d.sleeps(e.ID) {
			limit = max(away, sleeperAway)
		}
		switch {
		case e.Status != "ok":
			found = append(found, finding{fmt.Errorf("%s: %s: %s", e.ID, e.Status, e.Detail), "docs/operations.md says what to do"})
		case e.Connected || e.Pushed:
		case e.LastSeen == nil:
			found = append(found, finding{fmt.Errorf("%s has not been heard since the hub started", e.ID), "is its gateway powered and its network up? langbiang-edge doctor there says"})
		case d.now.Sub(*e.LastSeen) >= limit:
			found = append(found, finding{
				fmt.Errorf("%s is away, last heard %s ago", e.ID, d.now.Sub(*e.LastSeen).Round(time.Second)),
				"is its gateway powered and its network up? langbiang-edge doctor there says; its readings wait in its log",
			})
		}
	}
	d.many("edges", err, found, settings.Count(len(list), "edge")+", none away", "the page shows all")
	if err == nil {
		d.configurations(list)
	}
}

// configurations examines whether edges run what they are to run.
func (d *diagnosis) configurations(list []api.Edge) {
	var found []finding
	n := 0
	for i := range list {
		c := list[i].Configuration
		if c == nil || c.Desired == 0 {
			continue
		}
		n++
		switch c.State {
		case "in_step", "trial":
		default:
			line, _, _ := strings.Cut(stands(c), "\n")
			found = append(found, finding{fmt.Errorf("%s: %s", list[i].ID, line), "langbiang-hub edges config show " + list[i].ID + " tells all; docs/operations.md (fleet) says what to do"})
		}
	}
	if n > 0 {
		d.many("configs", nil, found, settings.Count(n, "edge")+" configured from here, all in step", "langbiang-hub edges list shows all")
	}
}

func (d *diagnosis) sleeps(edge string) bool {
	return slices.ContainsFunc(d.plan.Config.Offline.Sleepers, func(s SleeperConfig) bool {
		return slices.ContainsFunc(s.Edges, func(pattern string) bool {
			ok, err := path.Match(pattern, edge)
			return ok && err == nil
		})
	})
}

func (d *diagnosis) rules(ctx context.Context) {
	var st api.RulesStatus
	if err := ask(ctx, d.plan, "/api/v1/rules/status", nil, &st); err == nil && st.Last != nil && !st.Last.OK {
		text := "the rule files were read anew and not taken"
		if len(st.Last.Faults) > 0 {
			f := &st.Last.Faults[0]
			text += fmt.Sprintf(": %s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
		}
		d.Say("rules", errors.New(text), "", "mend them, then langbiang-hub rules reload")
	}
	list, err := all[api.Rule](ctx, d.plan, "/api/v1/rules")
	var found []finding
	silent := 0
	var blind []*api.Rule
	for i := range list {
		switch r := &list[i]; {
		case r.State == ruleFailing && r.Evaluations != nil:
			found = append(found, finding{fmt.Errorf("%s fails: %s", r.ID, r.Evaluations.Error), "mend its expression at " + r.Position})
		case r.State == ruleNoSeries && !r.BuiltIn:
			blind = append(blind, r)
		case r.State == ruleNoData:
			silent++
		}
	}
	if len(blind) > 0 {
		// One line: a library of rules has many for devices that a city does not have.
		names := make([]string, 0, maxFindings)
		for _, r := range blind[:min(len(blind), maxFindings)] {
			names = append(names, r.ID+" ("+r.Position+")")
		}
		if n := len(blind) - len(names); n > 0 {
			names = append(names, fmt.Sprintf("%d more", n))
		}
		found = append(found, finding{
			fmt.Errorf("%s of %d without series, which never fire: %s", settings.Count(len(blind), "rule"), len(list), strings.Join(names, ", ")),
			"are quantity and where right? Fine where such devices are still to come; take out those that are not wanted",
		})
	}
	text := settings.Count(len(list), "rule") + ", none failing, none without series"
	if silent > 0 {
		text += fmt.Sprintf("; %d without readings since the hub started", silent)
	}
	d.many("rules", err, found, text, "the page and /api/v1/rules show all")
}

func (d *diagnosis) deliveries(ctx context.Context) {
	var list struct{ Items []feed.Delivery }
	err := ask(ctx, d.plan, "/api/v1/deliveries", nil, &list)
	var found []finding
	for i := range list.Items {
		if t := &list.Items[i]; t.State == feed.Held || t.State == feed.Retrying {
			found = append(found, finding{fmt.Errorf("%s %s", t.Name, t.Summary), ""})
		}
	}
	text := settings.Count(len(list.Items), "target") + ", none held"
	if len(list.Items) == 0 {
		text = "no target is configured: alerts are on the page and in the API alone"
	}
	d.many("deliveries", err, found, text, "langbiang-hub deliveries list shows all")
}

func (d *diagnosis) backup(ctx context.Context) {
	var st api.StoreStatus
	if err := ask(ctx, d.plan, "/api/v1/store", nil, &st); err != nil {
		d.Say("backup", err, "", "")
		return
	}
	if st.Backup == nil {
		d.Say("backup", nil, "none by langbiang-hub backup is known; if nothing else copies this machine, make one", "")
		return
	}
	text := fmt.Sprintf("the newest is of %s, %s ago", st.Backup.Local().Format(time.RFC3339), d.now.Sub(*st.Backup).Round(time.Second))
	var fault error
	if d.now.Sub(*st.Backup) > backupAge {
		fault = errors.New(text)
	}
	d.Say("backup", fault, text, "langbiang-hub backup DIR, and let a timer do it")
}
