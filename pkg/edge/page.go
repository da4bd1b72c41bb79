package edge

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed" // for the page
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// The status page is for a technician with a phone at the cabinet. It is closed
// until somebody on the gateway opens it for a time, and lets in who knows the
// code that was printed then. It shows what the command status knows, and changes
// nothing.

//go:embed page/index.html
var pageHTML string

//go:embed page/page.js
var pageJS string

//go:embed page/page.css
var pageCSS string

// Bounds of an opening.
const (
	maxPageOpen  = 8 * time.Hour
	maxPageTries = 5 // wrong codes; then it closes
)

// statusPage is the page of one agent. Safe for concurrent use.
type statusPage struct {
	agent *Agent
	wg    sync.WaitGroup

	mu      sync.Mutex
	close   context.CancelFunc // of the present opening; nil: it is closed
	opened  int                // which opening it is
	code    string             // "": used
	session string             // of who has used it; "": nobody yet
	tries   int
	until   time.Time
}

// pageOpened is what the command prints.
type pageOpened struct {
	Address string    `json:"address"` // host:port
	Code    string    `json:"code"`
	Until   time.Time `json:"until"`
}

// open opens the page in place of an opening before. It ends with ctx.
func (p *statusPage) open(ctx context.Context, listen string, length time.Duration) (pageOpened, error) {
	if length <= 0 || length > maxPageOpen {
		return pageOpened{}, fmt.Errorf("%v is not between 1s and %v", length, maxPageOpen)
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return pageOpened{}, err
	}
	p.shut()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return pageOpened{}, fmt.Errorf("%w; choose another address with --listen", err)
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened++
	p.close, p.code, p.session, p.tries, p.until = cancel, fmt.Sprintf("%08d", binary.BigEndian.Uint64(b[:])%100_000_000), "", 0, time.Now().Add(length)
	opening := p.opened
	p.wg.Go(func() {
		if err := serveUntil(ctx, l, p.handler()); err != nil {
			p.agent.logger.Warn("the status page ended", "err", err)
		}
		p.ended(opening)
	})
	p.agent.logger.Info("status page opened", "address", l.Addr().String(), "until", p.until)
	return pageOpened{Address: l.Addr().String(), Code: p.code, Until: p.until}, nil
}

func (p *statusPage) ended(opening int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened == opening && p.close != nil {
		p.close()
		p.close, p.code, p.session = nil, "", ""
	}
}

// shut closes the page and waits for it.
func (p *statusPage) shut() {
	p.mu.Lock()
	if p.close != nil {
		p.close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// enter takes a code and returns the session of who knew it.
func (p *statusPage) enter(code string) (session string, left time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.code == "" || subtle.ConstantTimeCompare([]byte(code), []byte(p.code)) != 1 {
		if p.tries++; p.tries >= maxPageTries && p.session == "" && p.close != nil {
			p.close()
			p.agent.logger.Warn("status page closed: too many wrong codes")
		}
		return "", 0, errors.New("this is not the code, or it has been used")
	}
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", 0, err
	}
	p.code, p.session = "", hex.EncodeToString(b)
	return p.session, time.Until(p.until), nil
}

func (p *statusPage) knows(r *http.Request) bool {
	c, err := r.Cookie("langbiang")
	p.mu.Lock()
	defer p.mu.Unlock()
	return err == nil && p.session != "" && subtle.ConstantTimeCompare([]byte(c.Value), []byte(p.session)) == 1
}

func (p *statusPage) handler() http.Handler {
	mux := http.NewServeMux()
	for _, f := range []struct{ path, kind, text string }{
		{"/{$}", "text/html", pageHTML}, {"/page.js", "text/javascript", pageJS}, {"/page.css", "text/css", pageCSS},
	} {
		mux.HandleFunc("GET "+f.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", f.kind+"; charset=utf-8")
			_, _ = io.WriteString(w, f.text) // a browser that has gone needs no answer
		})
	}
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /code", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		session, left, err := p.enter(strings.Join(strings.Fields(string(body)), ""))
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "langbiang", Value: session, Path: "/", MaxAge: int(left.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode})
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		if !p.knows(r) {
			http.Error(w, "the code is asked for", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		answer(w, p.agent.status(""), nil)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		mux.ServeHTTP(w, r)
	})
}

func pageCommand() settings.Command[*Plan] {
	var length time.Duration
	var phone bool
	var listen string
	return settings.Command[*Plan]{
		Use: "page", Short: "the gateway's own status page, for a browser at the cabinet",
		Commands: []settings.Command[*Plan]{
			{
				Use: "open", Short: "open the page for a time, and print the code that it asks for once",
				Flags: func(f *pflag.FlagSet) {
					f.DurationVar(&length, "for", 30*time.Minute, "how long, at most 8h")
					f.BoolVar(&phone, "phone", false, "for other machines on the gateway's networks, too; otherwise this one only")
					f.StringVar(&listen, "listen", "", "address; 127.0.0.1:8089 when not said, with --phone 0.0.0.0:8089")
				},
				Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
					if listen == "" {
						listen = "127.0.0.1:8089"
						if phone {
							listen = "0.0.0.0:8089"
						}
					}
					var o pageOpened
					err := order(ctx, plan.Config.DataDir, "/page", url.Values{"for": {length.String()}, "listen": {listen}}, &o)
					if err != nil {
						return err
					}
					for _, a := range pageAddresses(o.Address) {
						if _, err := fmt.Fprintf(c.Stdout, "http://%s/\n", a); err != nil {
							return err
						}
					}
					_, err = fmt.Fprintf(c.Stdout, "code   %s %s   (works once, for one browser)\nuntil  %s; close it earlier with: langbiang-edge page close\n", o.Code[:4], o.Code[4:], o.Until.Local().Format(time.TimeOnly))
					return err
				},
			},
			{
				Use: "close", Short: "close the page",
				Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
					var closed bool
					if err := order(ctx, plan.Config.DataDir, "/page/close", nil, &closed); err != nil {
						return err
					}
					_, err := fmt.Fprintln(c.Stdout, "the page is closed")
					return err
				},
			},
		},
	}
}

// pageAddresses are those under which a listener is reached: all of this machine's
// when it listens on all.
func pageAddresses(listen string) []string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || ip != nil && !ip.IsUnspecified() {
		return []string{listen}
	}
	var out []string
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return []string{listen}
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			out = append(out, net.JoinHostPort(n.IP.String(), port))
		}
	}
	if len(out) == 0 {
		return []string{listen}
	}
	return out
}
