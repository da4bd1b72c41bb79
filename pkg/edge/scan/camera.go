package scan

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/profile"
)

// MaxHosts bounds the hosts that one scan asks.
const MaxHosts = 1024

// cameraPort is where cameras listen unless told otherwise.
const cameraPort = "554"

// at a time; a gateway's network has better things to do.
const camerasAtATime = 16

// Hosts reads a list of hosts, HOST:PORT and networks such as 10.0.0.0/24. It is not
// ok when one of them is none, or they are more than MaxHosts. The network's own
// address and the broadcast address are left out.
func Hosts(text string) (addresses []string, ok bool) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if network, err := netip.ParsePrefix(part); err == nil {
			network = network.Masked()
			for a := network.Addr(); network.Contains(a); a = a.Next() {
				last := !network.Contains(a.Next())
				if network.Bits() < a.BitLen()-1 && (a == network.Addr() || last && a.Is4()) {
					continue
				}
				if addresses = append(addresses, net.JoinHostPort(a.String(), cameraPort)); len(addresses) > MaxHosts {
					return nil, false
				}
			}
			continue
		}
		host, port, err := net.SplitHostPort(part)
		if err != nil {
			host, port = part, cameraPort
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" || strings.ContainsAny(host, "/ ") {
			return nil, false
		}
		addresses = append(addresses, net.JoinHostPort(host, port))
	}
	return addresses, len(addresses) > 0 && len(addresses) <= MaxHosts
}

// CameraOptions are the bounds of a search for cameras.
type CameraOptions struct {
	Addresses []string
	Timeout   time.Duration // for a host that may not be there
	Found     func(Finding) // called for each, one at a time
	Asked     func(asked int)
}

// Cameras asks hosts whether they are cameras, by RTSP OPTIONS, and where their
// streams are, by DESCRIBE with the user of cfg. The findings stand in the order of
// the addresses.
func Cameras(ctx context.Context, cfg *camera.Config, known Known, o CameraOptions) []Finding {
	var (
		mu    sync.Mutex
		asked int
		wg    sync.WaitGroup
		room  = make(chan struct{}, camerasAtATime)
		found = make([]*Finding, len(o.Addresses))
	)
	for i, address := range o.Addresses {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-room }()
			c, err := cfg.Look(ctx, address, o.Timeout)
			mu.Lock()
			defer mu.Unlock()
			asked++
			o.Asked(asked)
			if err != nil {
				return
			}
			f := cameraFinding(address, c, known)
			found[i] = &f
			o.Found(f)
		})
	}
	wg.Wait()
	var out []Finding
	for _, f := range found {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out
}

func cameraFinding(address string, c camera.Found, known Known) Finding {
	host, _, _ := net.SplitHostPort(address)
	f := Finding{Topic: host, Name: host}
	if c.Server != "" {
		f.Seen = "Server: " + c.Server
	}
	switch {
	case c.Refused:
		f.Note = "a camera that wants another user or password"
	case c.Stream == "":
		f.Note = "a camera whose stream is at none of the usual paths; its manual has it"
	default:
		i := slices.IndexFunc(known.Profiles, func(p *profile.Profile) bool { return p.ID == "generic/rtsp-camera" })
		if i < 0 {
			f.Note = "a camera at " + c.Stream
			return f
		}
		f.Profile, f.With = known.Profiles[i], map[string]string{"rtsp": c.Stream}
		f.Values = []Value{{Point: "codec", Text: c.Codec}}
		f.Points, f.Read = 1, 1
	}
	return f
}
