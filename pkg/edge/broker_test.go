package edge

import (
	"io"
	"log/slog"
	"net"
	"testing"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/langbiang/langbiang/pkg/profile"
)

// testBroker is a broker that devices publish to.
type testBroker struct {
	t      testing.TB
	server *broker.Server
	url    string
}

func serveBroker(t testing.TB) *testBroker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &testBroker{t, broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}), "mqtt://" + ln.Addr().String()}
	for _, err := range []error{b.server.AddHook(new(auth.AllowHook), nil), b.server.AddListener(listeners.NewNet("test", ln)), b.server.Serve()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = b.server.Close() })
	return b
}

// publish publishes retained messages.
func (b *testBroker) publish(messages ...profile.Message) {
	b.t.Helper()
	for _, m := range messages {
		if err := b.server.Publish(m.Topic, []byte(m.Payload), true, 0); err != nil {
			b.t.Fatal(err)
		}
	}
}
