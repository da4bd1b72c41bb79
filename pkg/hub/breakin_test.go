package hub

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/identity"
	"github.com/langbiang/langbiang/pkg/identity/enrol"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/wire"
)

// fortress is a hub with TLS on both listeners and people who sign in.
type fortress struct {
	*testing.T
	*Hub
	dir string
	log *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newFortress starts a hub as it is outside of tests; more is added to its hub.yaml.
func newFortress(t *testing.T, more ...string) *fortress {
	t.Helper()
	f := &fortress{T: t, dir: t.TempDir(), log: &lockedBuffer{}}
	for name, text := range map[string]string{
		"hub.yaml": fmt.Sprintf("data_dir: ./data\nclock: {require_sync: false}\nsites: ./sites.yaml\nrules: [./rules.yaml]\nhttp: {listen: %q, tls: on}\nmqtt: {listen: %q, tls: on}\n", testutil.FreeAddress(t), testutil.FreeAddress(t)) + strings.Join(more, ""),
		"sites.yaml": `sites:
  - {id: "24848", name: {vi: Xã Lạc Dương, en: Lạc Dương commune}, groups: [mountain], edges: [lac-duong-01]}
  - {id: "24853", name: {vi: Xã Đam Rông 4, en: Đam Rông 4 commune}, groups: [river], edges: [dam-rong-01]}
`,
		"rules.yaml": levelRule,
	} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := Load(filepath.Join(f.dir, "hub.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Hub, err = Open(plan, "test", slog.New(slog.NewTextHandler(f.log, nil))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Hub.Run(ctx); err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// token makes one through the API of the hub's own machine.
func (f *fortress) token(edge string) enrol.Token {
	f.Helper()
	var out api.EdgeToken
	if err := ask(f.Context(), f.plan, "/api/v1/edges/tokens", api.EdgeToken{Edge: edge, Site: "24848"}, &out); err != nil {
		f.Fatal(err)
	}
	if want := "sudo langbiang-edge enroll https://" + f.Addr() + " " + out.Token; out.Command != want {
		f.Errorf("the line to paste is %q, want %q", out.Command, want)
	}
	t, err := enrol.ParseToken(out.Token)
	if err != nil {
		f.Fatal(err)
	}
	return t
}

func (f *fortress) enrol(edge string) *enrol.Identity {
	f.Helper()
	dir := enrol.Dir(f.TempDir())
	if _, err := dir.Enrol(f.Context(), "https://"+f.Addr(), f.token(edge), "test"); err != nil {
		f.Fatal(err)
	}
	id, err := dir.Open()
	if err != nil {
		f.Fatal(err)
	}
	return id
}

func clientOptions(f *fortress, id, will string, config *tls.Config) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().AddBroker("mqtts://" + f.BusAddr()).SetClientID(id).SetProtocolVersion(4).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(time.Minute).SetTLSConfig(config)
	if will != "" {
		o.SetBinaryWill(will, []byte("forged"), 0, true)
	}
	return o
}

// connect is an MQTT client; lost is closed when its connection ends.
func (f *fortress) connect(clientID, will string, config *tls.Config) (c mqtt.Client, lost <-chan struct{}, err error) {
	f.Helper()
	gone := make(chan struct{})
	o := clientOptions(f, clientID, will, config).SetConnectionLostHandler(func(mqtt.Client, error) { close(gone) })
	c = mqtt.NewClient(o)
	t := c.Connect()
	if !t.WaitTimeout(time.Minute) {
		f.Fatal("no answer to CONNECT")
	}
	f.Cleanup(func() { c.Disconnect(0) })
	return c, gone, t.Error()
}

func (f *fortress) refused(reason string) float64 {
	f.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range families {
		if m.GetName() != "langbiang_hub_identity_refused_total" {
			continue
		}
		for _, x := range m.GetMetric() {
			if x.GetLabel()[0].GetValue() == reason {
				return x.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// wantRefused expects that a connection is turned away, counted and logged.
func (f *fortress) wantRefused(what, reason, clientID string, config *tls.Config) {
	f.Helper()
	before := f.refused(reason)
	if c, _, err := f.connect(clientID, "", config); err == nil {
		f.Errorf("%s: let in", what)
		c.Disconnect(0)
		return
	}
	testutil.Eventually(f.T, time.Minute, what+" is counted as "+reason, func() bool { return f.refused(reason) > before })
	if !strings.Contains(f.log.String(), "gateway refused") {
		f.Errorf("%s: not logged", what)
	}
}

func TestStrangersDoNotGetOntoTheBus(t *testing.T) {
	f := newFortress(t)
	id := f.enrol("lac-duong-01")
	if _, _, err := f.connect("lac-duong-01-00000001", "", id.TLS(nil)); err != nil {
		t.Fatalf("who was enrolled: %v", err)
	}
	// Without a certificate, and in plain text.
	bare := id.TLS(nil)
	bare.GetClientCertificate = nil
	if _, _, err := f.connect("lac-duong-01-00000002", "", bare); err == nil {
		t.Error("without a certificate: let in")
	}
	if c, err := net.Dial("tcp", f.BusAddr()); err == nil {
		_, _ = c.Write([]byte("\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"))
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 4)
		if n, _ := c.Read(b); n > 0 && b[0] == 0x20 {
			t.Error("plain text: let in")
		}
		_ = c.Close()
	}
	// A certificate of somebody else's authority, and one of nobody's.
	with := func(cert tls.Certificate) *tls.Config {
		c := id.TLS(nil)
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return c
	}
	other, err := identity.OpenAuthority(t.TempDir(), identity.Files{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Server()
	if err != nil {
		t.Fatal(err)
	}
	f.wantRefused("another authority", "forged", "lac-duong-01-00000003", with(*foreign))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lac-duong-01"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, self, self, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	f.wantRefused("signed by itself", "forged", "lac-duong-01-00000004", with(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}))
	// One of this hub that has ended.
	pair, err := tls.LoadX509KeyPair(filepath.Join(f.plan.Config.DataDir, identityFolder, identity.AuthorityCert), filepath.Join(f.plan.Config.DataDir, identityFolder, identity.AuthorityKey))
	if err != nil {
		t.Fatal(err)
	}
	self.SerialNumber, self.NotBefore, self.NotAfter = new(big.Int).Lsh(big.NewInt(time.Now().UnixMilli()), 64), time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	if der, err = x509.CreateCertificate(rand.Reader, self, pair.Leaf, &key.PublicKey, pair.PrivateKey); err != nil {
		t.Fatal(err)
	}
	f.wantRefused("ended", "expired", "lac-duong-01-00000005", with(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}))
	// A good certificate, and the client id of another.
	f.wantRefused("another's client id", "client_id", "dam-rong-01-00000001", id.TLS(nil))
}

func TestARevokedEdgeIsCutOffAtOnceAndStaysOut(t *testing.T) {
	f := newFortress(t)
	id, neighbour := f.enrol("lac-duong-01"), f.enrol("dam-rong-01")
	config := id.TLS(nil)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	_, lost, err := f.connect("lac-duong-01-00000001", "", config)
	if err != nil {
		t.Fatal(err)
	}
	other, otherLost, err := f.connect("dam-rong-01-00000001", "", neighbour.TLS(nil))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := Main(t.Context(), "test", []string{"edges", "revoke", "lac-duong-01", "--config", filepath.Join(f.dir, "hub.yaml")}, &out, &out); code != 0 || !strings.Contains(out.String(), "1 connection ended") {
		t.Fatalf("exit %d: %s", code, &out)
	}
	select {
	case <-lost:
	case <-time.After(time.Minute):
		t.Fatal("the connection lives on")
	}
	f.wantRefused("with a new handshake", "revoked", "lac-duong-01-00000002", id.TLS(nil))
	f.wantRefused("with a resumed one", "revoked", "lac-duong-01-00000003", config)
	if err := id.Renew(t.Context(), "test", nil); err == nil {
		t.Error("it renews its certificate")
	}
	select {
	case <-otherLost:
		t.Error("a neighbour was cut off with it")
	default:
	}
	if !other.IsConnectionOpen() {
		t.Error("the neighbour is gone")
	}
	// A new token lets its successor in.
	if _, _, err := f.connect("lac-duong-01-00000004", "", f.enrol("lac-duong-01").TLS(nil)); err != nil {
		t.Errorf("enrolled anew: %v", err)
	}
	f.wantRefused("the old certificate", "superseded", "lac-duong-01-00000005", id.TLS(nil))
}

func TestAnEdgeReachesItsOwnSubtreeAlone(t *testing.T) {
	f := newFortress(t)
	var mu sync.Mutex
	seen := map[string]int{}
	if err := f.bus.Subscribe(func(edge, kind string, payload []byte) {
		mu.Lock()
		defer mu.Unlock()
		seen[edge+"/"+kind+" "+string(payload)]++
	}); err != nil {
		t.Fatal(err)
	}
	victim, thief := f.enrol("dam-rong-01"), f.enrol("lac-duong-01")
	vc, _, err := f.connect("dam-rong-01-00000001", "", victim.TLS(nil))
	if err != nil {
		t.Fatal(err)
	}
	acks := make(chan string, 10)
	if tok := vc.Subscribe(wire.AckTopic("dam-rong-01"), 0, func(_ mqtt.Client, m mqtt.Message) { acks <- string(m.Payload()) }); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	heard := make(chan string, 100)
	for i, topic := range []string{
		"langbiang/v1/dam-rong-01/ack", "langbiang/v1/dam-rong-01/state", "langbiang/v1/dam-rong-01/ask", "langbiang/v1/dam-rong-01/answer", "langbiang/v1/lac-duong-01/answer", "langbiang/v1/+/ask", "langbiang/v1/+/ack", "langbiang/v1/#", "#", "+/+/+/+",
		"$SYS/#", "$JS/#", "$MQTT/#", "$MQTT/sess/#", "langbiang.v1.dam-rong-01.ack", "langbiang/v1/lac-duong-01/../dam-rong-01/ack",
	} {
		c, _, err := f.connect(fmt.Sprintf("lac-duong-01-%08x", 0x100+i), "", thief.TLS(nil))
		if err != nil {
			t.Fatal(err)
		}
		if tok := c.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { heard <- topic + " -> " + m.Topic() }); tok.WaitTimeout(time.Minute) && tok.Error() == nil {
			if granted := tok.(*mqtt.SubscribeToken).Result()[topic]; granted != 0x80 {
				t.Logf("%s: granted %d", topic, granted)
			}
		}
	}
	for i, topic := range []string{
		"langbiang/v1/dam-rong-01/frame", "langbiang/v1/dam-rong-01/hello", "langbiang/v1/dam-rong-01/state", "langbiang/v1/dam-rong-01/snapshot",
		"langbiang/v1/dam-rong-01/ack", "langbiang/v1/lac-duong-01/ack", "langbiang/v1/lac-duong-01/config", "langbiang/v1/dam-rong-01/ask", "langbiang/v1/dam-rong-01/answer", "langbiang/v1/lac-duong-01/ask", "langbiang/v1/lac-duong-01/x", "$SYS/REQ/x", "$JS/API/STREAM/DELETE/$MQTT_sess",
		"langbiang.v1.dam-rong-01.frame", "$MQTT/msgs/langbiang/v1/dam-rong-01/state",
	} {
		for _, retain := range []bool{false, true} {
			c, _, err := f.connect(fmt.Sprintf("lac-duong-01-%08x", 0x200+2*i), "", thief.TLS(nil))
			if err != nil {
				t.Fatal(err)
			}
			c.Publish(topic, 0, retain, "forged").WaitTimeout(time.Second)
			c.Publish(topic, 1, retain, "forged").WaitTimeout(50 * time.Millisecond)
		}
	}
	// A last will about another: sent when the connection breaks.
	wc, _, err := f.connect("lac-duong-01-00000300", "langbiang/v1/dam-rong-01/state", thief.TLS(nil))
	if err == nil {
		f.bus.Disconnect("lac-duong-01")
		testutil.Eventually(t, time.Minute, "its connection ends", func() bool { return !wc.IsConnectionOpen() })
	}
	// What is allowed still passes, and comes after all of the above.
	own, _, err := f.connect("lac-duong-01-00000400", "", thief.TLS(nil))
	if err != nil {
		t.Fatal(err)
	}
	own.Publish("langbiang/v1/lac-duong-01/state", 0, false, "own").WaitTimeout(time.Second)
	testutil.Eventually(t, time.Minute, "the edge's own state arrives", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen["lac-duong-01/state own"] > 0
	})
	for _, kind := range []string{wire.TopicAsk, wire.TopicAck} {
		if err := f.bus.Publish("dam-rong-01", kind, []byte("for the victim")); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case m := <-acks:
		if m != "for the victim" {
			t.Errorf("the victim got %q", m)
		}
	case <-time.After(time.Minute):
		t.Error("the victim hears nothing any more")
	}
	mu.Lock()
	defer mu.Unlock()
	for k := range seen {
		if strings.HasPrefix(k, "dam-rong-01/") {
			t.Errorf("the hub took for the victim's: %s", k)
		}
	}
	select {
	case m := <-heard:
		t.Errorf("the thief heard %s", m)
	default:
	}
}

func TestAGatewayWithAWrongClockEnrolsConnectsAndRenews(t *testing.T) {
	f := newFortress(t)
	id := f.enrol("lac-duong-01")
	y1970 := func() (time.Time, bool) { return time.Unix(3600, 0), false }
	if _, _, err := f.connect("lac-duong-01-00000001", "", id.TLS(y1970)); err != nil {
		t.Errorf("connect: %v", err)
	}
	if err := id.Renew(t.Context(), "test", y1970); err != nil {
		t.Errorf("renew: %v", err)
	}
	before := id.NotAfter()
	if _, _, err := f.connect("lac-duong-01-00000002", "", id.TLS(y1970)); err != nil || before.IsZero() {
		t.Errorf("connect with the new certificate: %v", err)
	}
	// One whose clock is trusted looks at the time.
	y2090 := func() (time.Time, bool) { return time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC), true }
	if _, _, err := f.connect("lac-duong-01-00000003", "", id.TLS(y2090)); err == nil {
		t.Error("a hub certificate that ended long ago")
	}
}

func TestAGatewayTellsItsHubFromAnother(t *testing.T) {
	f, other := newFortress(t), newFortress(t)
	token := f.token("lac-duong-01")
	dir := enrol.Dir(t.TempDir())
	if _, err := dir.Enrol(t.Context(), "https://"+other.Addr(), token, "test"); err == nil || !strings.Contains(err.Error(), enrol.ErrHub.Error()) {
		t.Errorf("another hub answered: %v", err)
	}
	if strings.Contains(other.log.String(), token.String()) {
		t.Error("the other hub was shown the token")
	}
	if _, err := dir.Enrol(t.Context(), "https://"+f.Addr(), token, "test"); err != nil {
		t.Errorf("and the token still works: %v", err)
	}
	id, err := dir.Open()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := tls.Dial("tcp", other.BusAddr(), id.TLS(nil)); err == nil {
		_ = c.Close()
		t.Error("connected to another hub's bus")
	}
	if _, err := enrol.Dir(t.TempDir()).Enrol(t.Context(), "https://"+f.Addr(), token, "test"); err == nil || !strings.Contains(err.Error(), "used by another gateway") {
		t.Errorf("a token twice: %v", err)
	}
}
