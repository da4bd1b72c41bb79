package scan

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/driver/sim"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/profile"
)

// rtspServer answers OPTIONS, and DESCRIBE with a status.
func rtspServer(status string) func(context.Context, net.Conn) {
	return func(_ context.Context, c net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			_, rest, _ := strings.Cut(string(buf[:n]), "CSeq: ")
			seq, _, _ := strings.Cut(rest, "\r\n")
			line := "200 OK\r\nServer: Acme/1.0"
			if strings.HasPrefix(string(buf[:n]), "DESCRIBE") {
				line = status + "\r\nWWW-Authenticate: Basic realm=\"x\""
			}
			if _, err := fmt.Fprintf(c, "RTSP/1.0 %s\r\nCSeq: %s\r\n\r\n", line, seq); err != nil {
				return
			}
		}
	}
}

func served(t *testing.T, serve func(context.Context, net.Conn)) string {
	t.Helper()
	s := sim.Loopback(serve)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s.Address
}

func TestCamerasAreFoundAmongOtherThings(t *testing.T) {
	addresses := []string{
		served(t, (&sim.Camera{}).Serve),
		served(t, rtspServer("401 Unauthorized")),
		served(t, rtspServer("404 Not Found")),
		served(t, func(_ context.Context, c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-x\r\n")) }),
		served(t, func(ctx context.Context, _ net.Conn) { <-ctx.Done() }), // says nothing
		testutil.FreeAddress(t),
	}
	known := Known{Profiles: []*profile.Profile{{ID: "generic/rtsp-camera"}}}
	told, asked := 0, 0
	found := Cameras(t.Context(), &camera.Config{}, known, CameraOptions{
		Addresses: addresses, Timeout: 3 * time.Second,
		Found: func(Finding) { told++ }, Asked: func(n int) { asked = max(asked, n) },
	})
	if told != 3 || asked != len(addresses) {
		t.Errorf("%d told, %d asked", told, asked)
	}
	var got []string
	for _, f := range found {
		what := f.Note
		if f.Profile != nil {
			what = f.Profile.ID + " " + strings.Replace(f.With["rtsp"], addresses[0], "HOST", 1) + " " + f.Values[0].Text
		}
		got = append(got, f.Topic+" "+what+" "+f.Seen)
	}
	want := []string{
		"127.0.0.1 generic/rtsp-camera rtsp://HOST/Streaming/Channels/102 H264 ",
		"127.0.0.1 a camera that wants another user or password Server: Acme/1.0",
		"127.0.0.1 a camera whose stream is at none of the usual paths; its manual has it Server: Acme/1.0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if found := Cameras(ended, &camera.Config{}, known, CameraOptions{Addresses: addresses, Timeout: time.Second, Found: func(Finding) {}, Asked: func(int) {}}); len(found) != 0 {
		t.Errorf("after the end: %v", found)
	}
}

func TestHostsAreBounded(t *testing.T) {
	for text, want := range map[string][]string{
		"10.0.0.20":          {"10.0.0.20:554"},
		"cam.local:8554,a":   {"cam.local:8554", "a:554"},
		"10.0.0.4/30":        {"10.0.0.5:554", "10.0.0.6:554"},
		"10.0.0.9/32":        {"10.0.0.9:554"},
		"fd00::1/128":        {"[fd00::1]:554"},
		"":                   nil,
		"10.0.0.0/16":        nil,
		"fd00::/64":          nil,
		"10.0.0.1,,10.0.0.2": nil,
		"10.0.0.0/33":        nil,
		"http://10.0.0.20/":  nil,
	} {
		got, ok := Hosts(text)
		if ok != (want != nil) || ok && !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	if got, ok := Hosts("10.0.0.0/24"); !ok || len(got) != 254 {
		t.Errorf("%d addresses of a /24", len(got))
	}
}
