package sim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"
)

// Camera answers RTSP, with a stream of ten empty pictures a second, and HTTP, with
// a snapshot in which something moves; both on one port, whatever the path. There
// is nothing to see in either.
// Safe for concurrent use; the zero value is ready.
type Camera struct {
	mu     sync.Mutex
	silent []string
}

// Silence makes the cameras whose path ends in one of the names give no answer.
func (c *Camera) Silence(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = names
}

func (c *Camera) mute(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.silent, func(name string) bool { return strings.HasSuffix(path, "/"+name) })
}

const (
	cameraFPS = 10
	cameraSDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=simulated\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n"
)

// Serve has one client until it goes or ctx ends; it is the Serve of a [Server].
func (cam *Camera) Serve(ctx context.Context, c net.Conn) {
	r := textproto.NewReader(bufio.NewReader(c))
	for {
		_ = c.SetDeadline(time.Now().Add(time.Minute)) // of a socket of ours
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		head, err := r.ReadMIMEHeader()
		if err != nil {
			return
		}
		method, rest, _ := strings.Cut(line, " ")
		if path, _, _ := strings.Cut(rest, " "); cam.mute(strings.TrimSuffix(path, "/")) {
			<-ctx.Done()
			return
		}
		if strings.Contains(rest, " HTTP/") {
			picture(c, time.Now())
			return
		}
		if !rtsp(c, method, head.Get("CSeq")) {
			return
		}
		if method == "PLAY" {
			play(ctx, c)
			return
		}
	}
}

// picture answers HTTP.
func picture(c net.Conn, now time.Time) {
	img := image.NewGray(image.Rect(0, 0, 320, 180))
	at := int(now.Unix()*16) % 320
	for y := range 180 {
		for x := range 320 {
			v := uint8(40 + x/2)
			if (x-at+320)%320 < 80 {
				v = 255
			}
			img.SetGray(x, y, color.Gray{Y: v})
		}
	}
	var b bytes.Buffer
	if jpeg.Encode(&b, img, nil) != nil {
		return
	}
	date := now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\nDate: %s\r\nLast-Modified: %s\r\nConnection: close\r\n\r\n", b.Len(), date, date)
	if err == nil {
		_, _ = c.Write(b.Bytes()) // a client that has gone needs none
	}
}

// rtsp answers one request; the layouts are those of RFC 2326.
func rtsp(c net.Conn, method, seq string) bool {
	head, body := "", ""
	switch method {
	case "OPTIONS":
		head = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
	case "DESCRIBE":
		head, body = fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n", len(cameraSDP)), cameraSDP
	case "SETUP":
		head = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
	default:
		head = "Session: 1\r\n"
	}
	_, err := fmt.Fprintf(c, "RTSP/1.0 200 OK\r\nCSeq: %s\r\n%s\r\n%s", seq, head, body)
	return err == nil
}

// play sends key frames that hold nothing.
func play(ctx context.Context, c net.Conn) {
	const size = 4000
	tick := time.NewTicker(time.Second / cameraFPS)
	defer tick.Stop()
	packet := make([]byte, 4+12+size)
	copy(packet, []byte{'$', 0, 0, 0, 0x80, 0x80 | 96})
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)-4))
	packet[16] = 0x65
	for n := uint32(0); ; n++ {
		binary.BigEndian.PutUint16(packet[6:], uint16(n))
		binary.BigEndian.PutUint32(packet[8:], n*90000/cameraFPS)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(packet); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
