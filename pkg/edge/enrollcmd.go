package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/identity/enrol"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/wire"
)

// identityDir is where the agent's certificate stands, in its data folder.
func identityDir(dataDir string) enrol.Dir { return enrol.Dir(filepath.Join(dataDir, "identity")) }

func enrollCommand() settings.Command[*Plan] {
	var path string
	return settings.Command[*Plan]{
		Use: "enroll HUB TOKEN", Short: "make this gateway known to its hub, with the line that langbiang-hub edges token printed",
		Args: cobra.ExactArgs(2),
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&path, "config", defaultPath, "configuration file: its hub part is written, all else stays; it is made when there is none")
		},
		Free: func(ctx context.Context, c settings.Call) error {
			return enroll(ctx, c, path, c.Args[0], c.Args[1])
		},
	}
}

func enroll(ctx context.Context, c settings.Call, path, hub, word string) error {
	token, err := enrol.ParseToken(word)
	if err != nil {
		return fmt.Errorf("%w: %w", settings.ErrUsage, err)
	}
	if !strings.Contains(hub, "://") {
		hub = "https://" + hub
	}
	hub = strings.TrimRight(hub, "/")
	u, err := url.Parse(hub)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return settings.Usagef("%q is no address of a hub: write https://HOST:PORT, as the line from the hub has it", hub)
	}
	text, dataDir, err := readForEnrolment(path)
	if err != nil {
		return err
	}
	dir := identityDir(dataDir)
	got, err := dir.Enrol(ctx, hub, token, c.Version)
	if err != nil {
		return enrolFault(err, hub)
	}
	address := got.MQTT
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(u.Hostname(), address)
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(c.Stdout, format+"\n", args...) }
	say("certificate of edge %s until %s is in %s", got.Edge, got.NotAfter.Format(time.DateOnly), dir)
	next, err := withHub(text, path, got.Edge, got.Site, "mqtts://"+address)
	if err == nil {
		err = replaceConfig(path, text, next)
	}
	if err != nil {
		return fmt.Errorf("this gateway has its certificate, and %s could not be written: %w; write there by hand:\n  edge: {id: %s, site: %q}\n  hub: {url: mqtts://%s}", path, err, got.Edge, got.Site, address)
	}
	say("%s says who this edge is and where its hub is", path)
	id, err := dir.Open()
	if err != nil {
		return err
	}
	if err := greet(ctx, id, address); err != nil {
		return fmt.Errorf("enrolled, and the hub does not answer at %s yet: %w; is the port open in every firewall on the way? langbiang-edge doctor asks again", address, err)
	}
	say("enrolled, the hub sees you, clock offset %.1f s", got.Offset.Seconds())
	if d := got.Offset.Abs(); d > 2*time.Second {
		say("  this gateway's clock is wrong; readings get their times from the hub's until it is synchronised")
	}
	if err := ask(ctx, dataDir, "/status", nil, &status{}); errors.Is(err, errNotRunning) {
		say("next: langbiang-edge check --config %s, then start the agent: systemctl enable --now langbiang-edge", path)
	} else {
		say("next: start the running agent anew, so that it connects as %s: systemctl restart langbiang-edge", got.Edge)
	}
	return nil
}

// enrolFault says what to do.
func enrolFault(err error, hub string) error {
	var refusal *enrol.Refusal
	var dns *net.DNSError
	switch {
	case errors.As(err, &refusal):
		return fmt.Errorf("%w; ask for a new line: langbiang-hub edges token --site SITE --edge EDGE", err)
	case errors.Is(err, enrol.ErrHub):
		return fmt.Errorf("%w; is the address right, or does something on the way answer in the hub's place? Nothing secret was sent", err)
	case errors.As(err, &dns):
		return fmt.Errorf("nobody knows the name in %s (%w); use the hub's address, or mend this gateway's DNS", hub, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run it as root, with sudo", err)
	}
	return fmt.Errorf("the hub does not answer at %s: %w; is the network up, and the port open?", hub, err)
}

// readForEnrolment returns the text of a configuration, empty when there is none, and
// its data folder. The file need not be whole: who enrols has not finished it.
func readForEnrolment(path string) (text []byte, dataDir string, err error) {
	cfg := DefaultConfig()
	text, err = os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = nil
		if strings.HasPrefix(path, "/etc/") {
			cfg.DataDir = packagedData
		}
	case err != nil:
		return nil, "", err
	default:
		doc, errs := strictyaml.Parse(path, text)
		if len(errs) > 0 {
			return nil, "", errs
		}
		_ = doc.Decode(&cfg) // what else is wrong is for check to say
	}
	return text, relative(filepath.Dir(path), cfg.DataDir), nil
}

// packagedData is the data folder of an agent that was installed from a package.
const packagedData = "/var/lib/langbiang-edge"

// greetTimeout bounds the first connection.
const greetTimeout = 15 * time.Second

// greet connects once, as the agent will: the hub lets this edge in.
func greet(ctx context.Context, id *enrol.Identity, address string) error {
	o := mqtt.NewClientOptions().AddBroker("mqtts://" + address).SetClientID(fmt.Sprintf("%s-%08x", id.Edge(), rand.Uint32())).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetConnectTimeout(greetTimeout).SetTLSConfig(id.TLS(nil))
	client := mqtt.NewClient(o)
	defer client.Disconnect(0)
	for _, token := range []func() mqtt.Token{client.Connect, func() mqtt.Token { return client.Subscribe(wire.AckTopic(id.Edge()), 0, nil) }} {
		t := token()
		limit := time.NewTimer(greetTimeout)
		defer limit.Stop()
		select {
		case <-t.Done():
			if err := t.Error(); err != nil {
				return err
			}
		case <-limit.C:
			return errors.New("no answer")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// replaceConfig writes the file, if what is to stand there is right as far as it goes.
func replaceConfig(path string, old, next []byte) error {
	if bytes.Equal(old, next) {
		return nil
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".edge-*.yaml")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when it was renamed
	mode := fs.FileMode(0o644)
	if st, err := os.Stat(path); err == nil {
		mode = st.Mode()
		likeOwner(f, st)
	}
	_, err = f.Write(next)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
