package edge

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/csv"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/bus"
	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// What a gateway costs on its link: 40 points of 7 devices, read every 5 s, over real
// TLS, TCP and MQTT between a real uplink and a real hub's bus and ingest. Time runs
// faster than it is, everything with it: periods, acknowledgements, checkpoints,
// keepalive. Bytes and segments are those that the kernel counts.
const (
	hurried     = 20 // how much faster
	tcpIPHeader = 20 + 20 + 12
	monthOf     = 30 * 24 * time.Hour
)

// stepClock shows the time that the test is at.
type stepClock struct{ ms atomic.Int64 }

func (c *stepClock) Now() clock.Time           { return clock.Time{Ms: c.ms.Load(), Trusted: true} }
func (*stepClock) OffsetOfBoot() (int64, bool) { return 0, true }

// sieve is a store, a ledger and rules that keep nothing.
type sieve struct {
	mu sync.Mutex
	n  uint64
}

func (s *sieve) Appender() ingest.Appender { return s }
func (*sieve) Sync() error                 { return nil }
func (*sieve) Commit() error               { return nil }
func (*sieve) Rollback() error             { return nil }
func (s *sieve) Append(ref uint64, _ []telemetry.Label, _ int64, _ float64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if ref == 0 {
		ref = s.n
	}
	return ref, nil
}

func (*sieve) Load(string) (ingest.Checkpoint, bool, error) { return ingest.Checkpoint{}, false, nil }
func (*sieve) Checkpoint([]ingest.Checkpoint) error         { return nil }
func (*sieve) Gap(ingest.Gap) error                         { return nil }
func (*sieve) Event(ingest.Event) error                     { return nil }

// certificates makes an authority, and a hub and an edge that know each other by it.
func certificates(tb testing.TB) (hub, edge *tls.Config) {
	tb.Helper()
	fail := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	issue := func(name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (tls.Certificate, *x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		fail(err)
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: parent == nil, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if parent == nil {
			parent, by = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		fail(err)
		parsed, err := x509.ParseCertificate(der)
		fail(err)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, parsed, key
	}
	_, ca, caKey := issue("Langbiang test authority", nil, nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	server, _, _ := issue("hub", ca, caKey)
	client, _, _ := issue("lac-duong-01", ca, caKey)
	return &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13},
		&tls.Config{Certificates: []tls.Certificate{client}, RootCAs: pool, MinVersion: tls.VersionTLS13}
}

// commonGateway is 40 points that replay real traces, a row at each reading.
type commonGateway struct {
	devices []*driver.Device
	columns map[*driver.Device][]int
	rows    [][]float64
	missing [][]bool
}

func newCommonGateway(tb testing.TB) *commonGateway {
	tb.Helper()
	f, err := os.Open("../wire/testdata/traces.csv.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	table, err := csv.NewReader(z).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	g := &commonGateway{columns: map[*driver.Device][]int{}}
	for _, line := range table[1:] {
		row, missing := make([]float64, len(line)), make([]bool, len(line))
		for i, cell := range line {
			missing[i] = cell == ""
			if row[i], err = strconv.ParseFloat(cell, 64); err != nil && cell != "" {
				tb.Fatal(err)
			}
		}
		g.rows, g.missing = append(g.rows, row), append(g.missing, missing)
	}
	add := func(id, kind string, columns ...string) {
		d := &driver.Device{ID: id, Profile: kind, Interval: 5 * time.Second}
		for _, name := range columns {
			for i, c := range table[0] {
				if strings.HasSuffix(c, name) || strings.Contains(c, name) && !strings.Contains(name, "/") {
					g.columns[d] = append(g.columns[d], i)
					_, quantity, ok := strings.Cut(name, "/")
					if !ok {
						quantity, _, _ = strings.Cut(name, "_")
					}
					point := strings.ToLower(strings.ReplaceAll(quantity, ".", ""))
					d.Points = append(d.Points, profile.Point{ID: point, Quantity: point, Topic: "t"})
					break
				}
			}
		}
		g.devices = append(g.devices, d)
	}
	for i, station := range []string{"Aotizhongxin", "Dongsi", "Huairou"} {
		var names []string
		for _, q := range []string{"PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM"} {
			names = append(names, station+"/"+q)
		}
		add(fmt.Sprintf("air-%d", i), "sim/air", names...)
	}
	add("road-1", "sim/road", "speed_6005", "occupancy_6005", "TravelTime")
	add("road-2", "sim/road", "speed_t4013", "occupancy_t4013")
	add("room-1", "sim/room", "machine_temp")
	add("room-2", "sim/room", "ambient_temp")
	return g
}

// read puts one reading of each point of the device, and that it answers.
func (g *commonGateway) read(c *collector, d *driver.Device, row int) {
	var samples []driver.Sample
	row %= len(g.rows)
	for p, column := range g.columns[d] {
		s := driver.Sample{Point: p, Value: g.rows[row][column]}
		if g.missing[row][column] {
			s.Quality = telemetry.BadQuality(telemetry.ReasonNotFitted)
		}
		samples = append(samples, s)
	}
	c.Put(d, time.Time{}, samples)
	c.Status(d, true, telemetry.ReasonNone, "")
}

// tcpInfo finds this process' connection to the address and asks the kernel what
// went over it.
func tcpInfo(tb testing.TB, addr string) *unix.TCPInfo {
	tb.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range files {
		fd, _ := strconv.Atoi(f.Name())
		peer, err := unix.Getpeername(fd)
		if in, ok := peer.(*unix.SockaddrInet4); err != nil || !ok || strconv.Itoa(in.Port) != port {
			continue
		}
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			tb.Fatal(err)
		}
		return info
	}
	tb.Fatal("there is no connection to the hub")
	return nil
}

// wireBytes is what went over the link, headers and acknowledgements of TCP included.
func wireBytes(i *unix.TCPInfo) (up, down uint64) {
	return i.Bytes_sent + uint64(i.Segs_out)*tcpIPHeader, i.Bytes_received + uint64(i.Segs_in)*tcpIPHeader
}

func BenchmarkGatewayMonth(b *testing.B) {
	for _, c := range []struct {
		name string
		link string
		span time.Duration
		goal float64 // MB
	}{
		{"default", linkUnmetered, 5 * time.Minute, 250},
		{"metered", linkMetered, 12 * time.Minute, 60},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				month(b, c.link, c.span, c.goal)
			}
		})
	}
}

func month(b *testing.B, link string, span time.Duration, goal float64) {
	silent := slog.New(slog.DiscardHandler)
	hubTLS, edgeTLS := certificates(b)
	g := newCommonGateway(b)
	cfg := DefaultConfig()
	cfg.Hub.Link = link
	p := paceOf(&cfg, g.devices)

	broker, err := bus.Open(bus.Config{Listen: "127.0.0.1:0", DataDir: b.TempDir(), TLS: hubTLS}, silent, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = broker.Close() }()
	hub, err := ingest.New(ingest.Config{
		Workers: 1, CheckpointEvery: time.Second / hurried, AckEvery: 200 * time.Millisecond / hurried, Logger: silent,
	}, ingest.Parts{Store: &sieve{}, Ledger: &sieve{}, Bus: broker})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = hub.Run(ctx) })
	if err := broker.Subscribe(hub.Receive); err != nil {
		b.Fatal(err)
	}

	log, err := buffer.Open(b.TempDir(), buffer.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	now := &stepClock{}
	begin := time.Now().Add(-span - time.Minute).Truncate(time.Second).UnixMilli()
	now.ms.Store(begin)
	collect := newCollector(newLayout(&Plan{Devices: g.devices}), now, silent)
	begun, err := framelog.Begin(log, 0, silent)
	if err != nil {
		b.Fatal(err)
	}
	r, err := newRecorder(log, collect, collect.schema, newTotals(log, silent), begun, wire.Pos{}, [16]byte{}, silent)
	if err != nil {
		b.Fatal(err)
	}
	collect.begin(0)
	u, err := uplink.New(uplink.Config{
		URL: "mqtts://" + broker.Addr(), TLS: edgeTLS, Edge: "lac-duong-01", Epoch: begun.Epoch,
		SendEvery: p.send / hurried, AckWithin: p.ackWithin / hurried, KeepAlive: p.keepAlive / hurried, Snapshot: r.values.append, SnapshotEvery: p.snapshot / hurried, BehindFrames: p.behind,
		Hello: func(h *wire.Hello) { h.Schema, h.SendEvery = r.schema.Load().Key, uint32(p.period.Milliseconds()) },
	}, framelog.Of(log))
	if err != nil {
		b.Fatal(err)
	}
	wg.Go(func() { _ = u.Run(ctx) })

	// The readings of one device come at its own moment of the five seconds.
	step := func(i int) {
		from := begin + int64(i)*p.cut.Milliseconds()
		for at := from; at < from+p.cut.Milliseconds(); at += 100 {
			for k, d := range g.devices {
				if (at-begin)%5000 == int64(k)*600 {
					now.ms.Store(at + int64(i*7+k*3)%11)
					g.read(collect, d, int((at-begin)/5000)+k*31)
				}
			}
		}
		now.ms.Store(from + p.cut.Milliseconds())
		if err := r.cut(0); err != nil {
			b.Fatal(err)
		}
		r.commit()
	}
	tick := time.NewTicker(p.cut / hurried)
	defer tick.Stop()
	settle := int(2*p.period/p.cut) + 4
	total := settle + int(span/p.cut)
	var start *unix.TCPInfo
	readings := uint64(0)
	for i := range total {
		if i == settle {
			start, readings = tcpInfo(b, broker.Addr()), r.readings.Load()
		}
		step(i)
		<-tick.C
	}
	end := tcpInfo(b, broker.Addr())
	readings = r.readings.Load() - readings
	last, _ := log.Last()
	if got := u.Status().Got; got.Seq+uint64(2*p.period/p.cut)+10 < last.Seq {
		b.Fatalf("the hub has %d of %d frames", got.Seq, last.Seq)
	}
	up0, down0 := wireBytes(start)
	up1, down1 := wireBytes(end)
	seconds := float64(total-settle) * p.cut.Seconds()
	up, down := float64(up1-up0)/seconds, float64(down1-down0)/seconds
	b.ReportMetric((up+down)*monthOf.Seconds()/1e6, "MB/month")
	b.ReportMetric(goal, "MB/month-goal")
	b.ReportMetric(up, "B/s-up")
	b.ReportMetric(down, "B/s-down")
	b.ReportMetric((up+down)*seconds/float64(readings), "B/reading")
	b.ReportMetric(float64(end.Segs_out-start.Segs_out+end.Segs_in-start.Segs_in)/seconds*60, "segments/min")
	b.ReportMetric(float64(up0+down0)/1000, "kB-connect")
}
