package camera

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// streamPaths are where cameras have their streams, the lighter one of each maker
// first. There is no path that all have.
var streamPaths = []string{
	"/Streaming/Channels/102",                  // Hikvision
	"/cam/realmonitor?channel=1&subtype=1",     // Dahua
	"/axis-media/media.amp?resolution=640x360", // Axis
	"/stream2",            // TP-Link
	"/h264Preview_01_sub", // Reolink
	"/media/video2",       // Uniview
	"/profile2/media.smp", // Hanwha
	"/live",
	"/",
}

// maxGreeting bounds what is read of an answer to OPTIONS.
const maxGreeting = 16 << 10

// Found is something that speaks RTSP.
type Found struct {
	Server string // as it calls itself; often empty
	Stream string // address of a stream that it describes; empty: none of the usual paths
	Codec  string // of that stream
	// Refused says that it wants another user, or one at all: no path was tried
	// beyond the first, so that nobody is locked out.
	Refused bool
}

// Look asks whether a camera is at an address, host and port, and where it has a
// stream, with the connection's user. It makes a few short connections, one after
// another; the first may take so long as given, and a login that is refused is not
// repeated. The error says why there is no camera.
func (c *Config) Look(ctx context.Context, address string, within time.Duration) (f Found, err error) {
	if f.Server, err = greet(ctx, address, within); err != nil {
		return f, err
	}
	cfg := *c
	cfg.ApplyDefaults()
	l, err := cfg.login()
	if err != nil {
		return f, err
	}
	for _, path := range streamPaths {
		u, err := url.Parse("rtsp://" + strings.TrimSuffix(address, ":554") + path)
		if err != nil {
			return f, err
		}
		s, fail, _ := probeRTSP(ctx, &cfg, u, l, 0)
		switch {
		case ctx.Err() != nil:
			return f, ctx.Err()
		case !fail.failed():
			f.Stream, f.Codec = u.String(), s.codec
			return f, nil
		case fail == judgeStatus(401, u.Host), fail == judgeStatus(403, u.Host):
			f.Refused = true
			return f, nil
		case fail.reason == telemetry.ReasonNoAnswer, fail.reason == telemetry.ReasonUnreachable:
			return f, nil // it has had enough of us
		}
	}
	return f, nil
}

var errNotRTSP = errors.New("what listens there is no camera")

// greet asks OPTIONS by hand: that needs no user and changes nothing.
func greet(ctx context.Context, address string, within time.Duration) (server string, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }() // nothing more is said
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if _, err := fmt.Fprintf(c, "OPTIONS rtsp://%s/ RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: langbiang-edge\r\n\r\n", address); err != nil {
		return "", err
	}
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(c, maxGreeting)))
	line, err := r.ReadLine()
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(line, "RTSP/1.") {
		return "", errNotRTSP
	}
	head, err := r.ReadMIMEHeader()
	if err != nil {
		return "", errNotRTSP
	}
	return plain(errors.New(head.Get("Server"))), nil
}
