//go:build interop

package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// authority is a certificate authority of the test, and certificates by it, as
// files in a folder.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	// The broker gives up root's rights and must still read them.
	for d := a.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a.key, a.cert = a.issue("ca", nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name string, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil { //nolint:gosec // of a test
		a.t.Fatal(err)
	}
}

// issue makes NAME.crt and NAME.key.
func (a *authority) issue(name string, hosts []net.IP) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name}, IPAddresses: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		tmpl.IsCA, tmpl.KeyUsage, tmpl.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", private)
	return key, cert
}

// mosquitto is a broker: plain for those who publish, TLS with client
// certificates, and TLS with passwords.
type mosquitto struct {
	*authority
	plain, mutual, secret string // ports
	srv                   *server
}

func newMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	m := &mosquitto{authority: newAuthority(t), plain: freePort(t), mutual: freePort(t), secret: freePort(t)}
	m.issue("server", []net.IP{net.IPv4(127, 0, 0, 1)})
	m.issue("edge", nil)
	passwords := m.path("passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "edge", "geheim").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(passwords, 0o644); err != nil { //nolint:gosec // of a test
		t.Fatal(err)
	}
	tlsLines := fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s\n", m.path("ca.crt"), m.path("server.crt"), m.path("server.key"))
	conf := "per_listener_settings true\n" +
		"listener " + m.plain + " 127.0.0.1\nallow_anonymous true\n" +
		"listener " + m.mutual + " 127.0.0.1\nallow_anonymous true\nrequire_certificate true\n" + tlsLines +
		"listener " + m.secret + " 127.0.0.1\npassword_file " + passwords + "\n" + tlsLines
	if err := os.WriteFile(m.path("mosquitto.conf"), []byte(conf), 0o644); err != nil { //nolint:gosec // of a test
		t.Fatal(err)
	}
	m.start()
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.srv = serve(m.t, "running", "/usr/sbin/mosquitto", "-c", m.path("mosquitto.conf"), "-v")
}

// publish gives the broker a message.
func (m *mosquitto) publish(topic, payload string, qos byte, retained bool) {
	m.t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://127.0.0.1:" + m.plain).SetClientID(fmt.Sprintf("device-%d", time.Now().UnixNano())))
	if tok := c.Connect(); !tok.WaitTimeout(drivertest.Limit) || tok.Error() != nil {
		m.t.Fatal("publisher: ", tok.Error())
	}
	if tok := c.Publish(topic, qos, retained, payload); !tok.WaitTimeout(drivertest.Limit) || tok.Error() != nil {
		m.t.Fatal("publish: ", tok.Error())
	}
	c.Disconnect(100)
}

func mqttDevice(id, topic string) *driver.Device {
	d := &driver.Device{
		ID: id, Interval: time.Second,
		Points:  []profile.Point{{ID: "t", Topic: topic, Path: "temperature"}},
		Convert: []driver.Linear{{Factor: 1}},
	}
	d.MQTT.Availability = &profile.Availability{Topic: topic + "/availability", Path: "state", Online: []string{"online"}, Offline: []string{"offline"}}
	return d
}

func (m *mosquitto) configs(t *testing.T) map[string]*mqtt.Config {
	t.Helper()
	file := m.path("password")
	if err := os.WriteFile(file, []byte("geheim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("INTEROP_PASSWORD", "geheim")
	return map[string]*mqtt.Config{
		"plain": {URL: "tcp://127.0.0.1:" + m.plain},
		"client certificate": {
			URL: "ssl://127.0.0.1:" + m.mutual, CAFile: m.path("ca.crt"), CertFile: m.path("edge.crt"), KeyFile: m.path("edge.key"),
		},
		"password from a file":            {URL: "mqtts://127.0.0.1:" + m.secret, CAFile: m.path("ca.crt"), User: "edge", PasswordFile: file},
		"password from the environment":   {URL: "mqtts://127.0.0.1:" + m.secret, CAFile: m.path("ca.crt"), User: "edge", PasswordEnv: "INTEROP_PASSWORD"},
		"without a look at the authority": {URL: "mqtts://127.0.0.1:" + m.secret, Insecure: true, User: "edge", PasswordFile: file},
	}
}

func TestMosquitto(t *testing.T) {
	m := newMosquitto(t)
	for name, cfg := range m.configs(t) {
		t.Run(name, func(t *testing.T) {
			topic := "z/" + strings.ReplaceAll(name, " ", "-")
			d := mqttDevice("room", topic)
			cfg.MaxReconnect = 200 * time.Millisecond
			cfg.ClientID = strings.ReplaceAll(name, " ", "-")
			m.publish(topic, `{"temperature":1}`, 1, true) // old news
			rec := &drivertest.Recorder{}
			start(t, cfg, rec, d)
			drivertest.Until(t, "it is read", func() bool {
				m.publish(topic, `{"temperature":21.5}`, 1, false)
				r, ok := rec.Last("room", 0)
				return ok && r.Value == 21.5 && r.Quality == 0 && rec.State("room").Up
			})
			for _, r := range rec.Readings("room", 0) {
				if r.Value == 1 {
					t.Error("a retained message became a reading")
				}
			}
			m.publish(topic+"/availability", `{"state":"offline"}`, 1, true)
			rec.Wait(t, "offline", func() bool { return rec.State("room").Reason == telemetry.ReasonOffline })
			m.publish(topic+"/availability", `{"state":"online"}`, 1, true)
			rec.Wait(t, "online", func() bool { return rec.State("room").Up })
		})
	}
}

func TestMosquittoRefusesAndIsNamed(t *testing.T) {
	m := newMosquitto(t)
	stranger := newAuthority(t)
	for name, c := range map[string]struct {
		cfg  *mqtt.Config
		want string
	}{
		"a wrong password":      {&mqtt.Config{URL: "mqtts://127.0.0.1:" + m.secret, CAFile: m.path("ca.crt"), User: "edge", Password: "falsch"}, "refuses the user \"edge\" or the password"},
		"another authority":     {&mqtt.Config{URL: "mqtts://127.0.0.1:" + m.secret, CAFile: stranger.path("ca.crt"), User: "edge", Password: "geheim"}, "certificate"},
		"no client certificate": {&mqtt.Config{URL: "mqtts://127.0.0.1:" + m.mutual, CAFile: m.path("ca.crt")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.MaxReconnect = 200 * time.Millisecond
			rec := &drivertest.Recorder{}
			start(t, c.cfg, rec, mqttDevice("room", "z/room"))
			rec.Wait(t, "it is said", func() bool {
				s := rec.State("room")
				return s.Known && !s.Up && s.Reason == telemetry.ReasonUnreachable && strings.Contains(s.Detail, c.want)
			})
			t.Log(rec.State("room").Detail)
		})
	}
}

func TestMosquittoMayBeDownAndComeBack(t *testing.T) {
	m := newMosquitto(t)
	m.srv.stop()
	rec := &drivertest.Recorder{}
	cfg := m.configs(t)["client certificate"]
	cfg.MaxReconnect = 200 * time.Millisecond
	start(t, cfg, rec, mqttDevice("room", "z/room"))
	for round := range 2 {
		rec.Wait(t, "unreachable", func() bool { return rec.State("room").Reason == telemetry.ReasonUnreachable })
		m.start()
		v := float64(10 + round)
		drivertest.Until(t, "subscribed again", func() bool {
			m.publish("z/room", fmt.Sprintf(`{"temperature":%v}`, v), 0, false)
			r, ok := rec.Last("room", 0)
			return ok && r.Value == v && rec.State("room").Up
		})
		m.srv.stop()
	}
}

// holdingSink commits when the test says so.
type holdingSink struct {
	drivertest.Recorder
	mu      sync.Mutex
	waiting []func()
	let     bool
}

func (h *holdingSink) Committed(_ driver.Ticket, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.let {
		f()
		return
	}
	h.waiting = append(h.waiting, f)
}

func (h *holdingSink) commit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.waiting {
		f()
	}
	h.waiting, h.let = nil, true
}

func TestMosquittoKeepsWhatIsNotCommitted(t *testing.T) {
	m := newMosquitto(t)
	cfg := func() *mqtt.Config {
		return &mqtt.Config{URL: "tcp://127.0.0.1:" + m.plain, ClientID: "edge-1", MaxReconnect: 200 * time.Millisecond}
	}
	first := &holdingSink{}
	_, crash := start(t, cfg(), first, mqttDevice("room", "z/room"))
	drivertest.Until(t, "the first is read", func() bool {
		m.publish("z/room", `{"temperature":7}`, 1, false)
		_, ok := first.Last("room", 0)
		return ok
	})
	crash() // before anything was committed
	second := &holdingSink{}
	_, stop := start(t, cfg(), second, mqttDevice("room", "z/room"))
	second.Wait(t, "it comes again", func() bool {
		r, ok := second.Last("room", 0)
		return ok && r.Value == 7
	})
	second.commit()
	n := second.Count("room")
	m.publish("z/room", `{"temperature":8}`, 1, false)
	second.Wait(t, "the next one", func() bool { r, _ := second.Last("room", 0); return r.Value == 8 })
	stop()
	third := &holdingSink{}
	start(t, cfg(), third, mqttDevice("room", "z/room"))
	drivertest.Until(t, "only new ones come", func() bool {
		m.publish("z/room", `{"temperature":9}`, 1, false)
		r, ok := third.Last("room", 0)
		return ok && r.Value == 9
	})
	for _, r := range third.Readings("room", 0) {
		if r.Value == 7 {
			t.Errorf("%d were committed, and one came again", n)
		}
	}
}
