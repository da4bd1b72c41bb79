package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a network of its own for the field and the edges, joined to the
// hub's by a pair of virtual devices: taken down, it makes packets vanish without a
// word to either end, which no proxy can.
type namespace struct {
	name         string
	outer, inner string // the two devices
	addr         string // of the hub's side
	netem        bool   // the kernel can delay, lose and reorder packets
}

// namespaces counts those of this process: names of those gone are free only later.
var namespaces atomic.Int32

// newNamespace makes one. It says why it cannot: that takes root, a kernel that has
// them, and iproute2.
func newNamespace(t *testing.T) (*namespace, error) {
	t.Helper()
	id := (os.Getpid()*10 + int(namespaces.Add(1))) % 10_000
	n := &namespace{name: fmt.Sprintf("lbt%d", id), outer: fmt.Sprintf("lbo%d", id), inner: fmt.Sprintf("lbi%d", id)}
	third, fourth := id/64%256, id%64*4
	n.addr = fmt.Sprintf("10.213.%d.%d", third, fourth+1)
	if err := ip("netns", "add", n.name); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := ip("netns", "del", n.name); err != nil {
			t.Error(err)
		}
	})
	for _, args := range [][]string{
		{"link", "add", n.outer, "type", "veth", "peer", "name", n.inner, "netns", n.name},
		{"addr", "add", n.addr + "/30", "dev", n.outer},
		{"link", "set", n.outer, "up"},
		{"-n", n.name, "addr", "add", fmt.Sprintf("10.213.%d.%d/30", third, fourth+2), "dev", n.inner},
		{"-n", n.name, "link", "set", n.inner, "up"},
		{"-n", n.name, "link", "set", "lo", "up"},
	} {
		if err := ip(args...); err != nil {
			return nil, err
		}
	}
	n.netem = n.shape("delay", "1ms") == nil
	n.unshape()
	return n, nil
}

func ip(args ...string) error { return tool("ip", args...) }

func tool(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// command makes a program run within.
func (n *namespace) command(cmd *exec.Cmd) *exec.Cmd {
	in := exec.Command("ip", append([]string{"netns", "exec", n.name, cmd.Path}, cmd.Args[1:]...)...)
	in.Env = cmd.Env
	return in
}

// up lets packets pass, or vanish.
func (n *namespace) up(up bool) error {
	return ip("link", "set", n.outer, map[bool]string{true: "up", false: "down"}[up])
}

// shape lets the kernel treat packets as tc-netem says.
func (n *namespace) shape(how ...string) error {
	return tool("tc", append([]string{"qdisc", "replace", "dev", n.outer, "root", "netem"}, how...)...)
}

func (n *namespace) unshape() {
	_ = tool("tc", "qdisc", "del", "dev", n.outer, "root") // there may be none
}

// client speaks HTTP to what listens on the namespace's loopback.
func (n *namespace) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		runtime.LockOSThread() // a socket belongs to the namespace of the thread that makes it
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		defer func() { _ = own.Close() }()
		other, err := os.Open("/run/netns/" + n.name)
		if err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		defer func() { _ = other.Close() }()
		if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		return c, err
	}}}
}
