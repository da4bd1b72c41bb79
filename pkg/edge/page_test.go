package edge

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// phone is a browser at the cabinet.
type phone struct {
	*testing.T
	http.Client
	url string
}

func newPhone(t *testing.T, printed string) *phone {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &phone{T: t, Client: http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}}
	p.url, _, _ = strings.Cut(printed, "/\n")
	return p
}

func (p *phone) do(method, path, body string) (status int, answer string) {
	p.Helper()
	req, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	resp, err := p.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
		p.Errorf("%s: policy %q", path, csp)
	}
	return resp.StatusCode, string(b)
}

var printedCode = regexp.MustCompile(`code +(\d{4} \d{4})`)

func TestThePageAtTheCabinetAsksForItsCodeOnce(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	if code, _, errs := command(t, dir, "page", "open"); code == 0 || !strings.Contains(errs, "no agent is running") {
		t.Errorf("without an agent: exit %d, %s", code, errs)
	}
	free := testutil.FreeAddress(t)
	runAgent(t, dir, func(*Agent) bool {
		code, out, errs := command(t, dir, "page", "open", "--for", "20m", "--listen", free)
		if code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
		found := printedCode.FindStringSubmatch(out)
		if found == nil || !strings.HasPrefix(out, "http://"+free+"/\n") {
			t.Fatalf("printed %q", out)
		}
		one, other := newPhone(t, out), newPhone(t, out)
		for path, want := range map[string]string{"/": "<!doctype html>", "/page.js": "status", "/page.css": "body"} {
			if status, body := one.do(http.MethodGet, path, ""); status != http.StatusOK || !strings.Contains(body, want) || regexp.MustCompile(`(?i)(src|href|fetch\()=?["']?https?:`).MatchString(body) {
				t.Errorf("%s: %d %.100s", path, status, body)
			}
		}
		if status, _ := one.do(http.MethodGet, "/status", ""); status != http.StatusUnauthorized {
			t.Errorf("status without the code: %d", status)
		}
		if status, _ := one.do(http.MethodPost, "/code", "1234"); status != http.StatusForbidden {
			t.Errorf("wrong code: %d", status)
		}
		if status, body := one.do(http.MethodPost, "/code", found[1]); status != http.StatusNoContent {
			t.Errorf("code %s: %d %s", found[1], status, body)
		}
		if status, _ := other.do(http.MethodPost, "/code", found[1]); status != http.StatusForbidden {
			t.Errorf("the code a second time: %d", status)
		}
		testutil.Eventually(t, time.Minute, "the page shows what the devices gave", func() bool {
			status, body := one.do(http.MethodGet, "/status", "")
			return status == http.StatusOK && strings.Contains(body, `"value":1.834`) && strings.Contains(body, "unit 9 does not answer")
		})
		if status, _ := one.do(http.MethodPost, "/status", ""); status != http.StatusMethodNotAllowed {
			t.Errorf("the page changes nothing, but a POST is answered %d", status)
		}
		if status, _ := other.do(http.MethodGet, "/status", ""); status != http.StatusUnauthorized {
			t.Errorf("who has not the session: %d", status)
		}
		if code, out, errs := command(t, dir, "page", "close"); code != 0 || !strings.Contains(out, "closed") {
			t.Errorf("exit %d: %s", code, errs)
		}
		if status, _ := one.do(http.MethodGet, "/", ""); status != 0 {
			t.Errorf("after it was closed: %d", status)
		}
		return true
	})
}

func TestThePageAtTheCabinetClosesAfterWrongCodes(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	free := testutil.FreeAddress(t)
	runAgent(t, dir, func(*Agent) bool {
		_, out, _ := command(t, dir, "page", "open", "--listen", free)
		guesser := newPhone(t, out)
		for range maxPageTries {
			guesser.do(http.MethodPost, "/code", "00000000")
		}
		testutil.Eventually(t, time.Minute, "it is closed", func() bool {
			status, _ := guesser.do(http.MethodGet, "/", "")
			return status == 0
		})
		// Opened again it lasts as long as it was said.
		if code, out, errs := command(t, dir, "page", "open", "--listen", free, "--for", "300ms"); code != 0 || !printedCode.MatchString(out) {
			t.Errorf("exit %d: %s", code, errs)
		}
		testutil.Eventually(t, time.Minute, "its time is over", func() bool {
			status, _ := guesser.do(http.MethodGet, "/", "")
			return status == 0
		})
		for _, bad := range []string{"0s", "9h"} {
			if code, _, errs := command(t, dir, "page", "open", "--for", bad); code == 0 || !strings.Contains(errs, "is not between") {
				t.Errorf("--for %s: exit %d, %s", bad, code, errs)
			}
		}
		return true
	})
}

func TestTheStatusSaysHowBusyALineIs(t *testing.T) {
	dir := files(t, map[string]string{"edge.yaml": `
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1}
connections:
  - {id: bus, modbus: {transport: rtu, port: /dev/null, baud: 9600}}
devices:
  - {id: d, connection: bus, unit: 1, interval: 1s, points: [{id: level, quantity: water_level, holding: 4, type: uint16, unit: m}]}
`})
	plan, err := Load(dir+"/edge.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	connections, _ := describeDevices(plan, newDirectReading(plan.Devices), "")
	b, err := json.Marshal(connections)
	if err != nil || connections[0].Load == nil || *connections[0].Load <= 0 || *connections[0].Load > 0.2 {
		t.Errorf("%s %v", b, err)
	}
}
