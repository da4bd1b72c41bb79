package camera

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// pictureServer shows a picture whose age the test sets, and can go away.
type pictureServer struct {
	*listener
	t    testing.TB
	jpeg []byte
	age  [2]atomic.Int64
	mute [2]atomic.Bool
	srv  *http.Server
	wg   sync.WaitGroup
}

func (p *pictureServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i := strings.Index("01", strings.TrimPrefix(r.URL.Path, "/"))
	if i < 0 || p.mute[i].Load() {
		<-r.Context().Done()
		return
	}
	now := time.Now().UTC()
	w.Header().Set("Date", now.Format(http.TimeFormat))
	w.Header().Set("Last-Modified", now.Add(-time.Duration(p.age[i].Load())*time.Second).Format(http.TimeFormat))
	_, _ = w.Write(p.jpeg)
}

func (p *pictureServer) up() {
	p.t.Helper()
	ln, err := listenOn(p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	srv := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	p.srv = srv
	p.wg.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			p.t.Error(err)
		}
	})
}

func (p *pictureServer) down() {
	if p.srv != nil {
		_ = p.srv.Close()
		p.srv = nil
	}
	p.wg.Wait()
}

func TestDriverSuite(t *testing.T) {
	drivertest.Run(t, func(t testing.TB) drivertest.Fixture {
		p := &pictureServer{listener: &listener{addr: testutil.FreeAddress(t)}, t: t, jpeg: scene(t, 60, true)}
		p.up()
		t.Cleanup(p.down)
		base := "http://" + p.addr
		return drivertest.Fixture{
			Source: &Config{Timeout: time.Second},
			Devices: []*driver.Device{
				device("one", profile.CameraDefaults{Snapshot: base + "/0"}, 50*time.Millisecond, profile.CameraPictureAge, profile.CameraDark),
				device("two", profile.CameraDefaults{Snapshot: base + "/1"}, 50*time.Millisecond, profile.CameraPictureAge),
			},
			Show:    func(device int, v float64) { p.age[device].Store(int64(v)) },
			Silence: func(device int, silent bool) { p.mute[device].Store(silent) },
			Cut: func(away bool) {
				if away {
					p.down()
				} else {
					p.up()
				}
			},
		}
	})
}

func start(t *testing.T, cfg *Config, devices ...*driver.Device) *drivertest.Recorder {
	t.Helper()
	f := drivertest.Fixture{Source: cfg, Devices: devices}
	rec, _ := f.Start(t, "cams", nil)
	return rec
}

func TestACameraIsMeasuredFromBothSides(t *testing.T) {
	cam := &rtspCamera{auth: "digest", sdp: sdpH264, fps: 20, pictures: true}
	l := listen(t, cam.serve)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(scene(t, 5, false)) }))
	defer srv.Close()
	d := device("gate", profile.CameraDefaults{RTSP: "rtsp://" + l.addr + "/live", Snapshot: srv.URL}, time.Second,
		profile.CameraAnswerTime, profile.CameraCodec, profile.CameraFrameRate, profile.CameraBitRate,
		profile.CameraPictureSize, profile.CameraPictureAge, profile.CameraDark, profile.CameraFrozen)
	rec := start(t, testConfig(), d)
	rec.Wait(t, "all is measured", func() bool {
		for i := range d.Points {
			if _, ok := rec.Last("gate", i); !ok {
				return false
			}
		}
		return true
	})
	last := func(i int) drivertest.Reading { r, _ := rec.Last("gate", i); return r }
	if r := last(1); r.Text != "H264" || r.Quality != 0 {
		t.Errorf("codec %+v", r.Sample)
	}
	if r := last(2); r.Value != 20 || r.Quality != 0 {
		t.Errorf("frame rate %+v", r.Sample)
	}
	if r := last(5); r.Quality != telemetry.BadQuality(telemetry.ReasonMissing) {
		t.Errorf("an age that nobody says: %+v", r.Sample)
	}
	if dark, frozen := last(6), last(7); dark.Value != 1 || frozen.Value != 0 {
		t.Errorf("dark %v, frozen %v", dark.Value, frozen.Value)
	}
	rec.Wait(t, "it is up", func() bool { return rec.State("gate").Up }) // told after the readings
	srv.Close()
	rec.Wait(t, "the pictures are bad", func() bool { r := last(4); return r.Quality.IsBad() })
	if s := rec.State("gate"); !s.Up || s.Changes != 1 {
		t.Errorf("half of it answers, yet %+v", s)
	}
	l.stop()
	rec.Wait(t, "it is down", func() bool { return !rec.State("gate").Up })
	for i := range d.Points {
		rec.Wait(t, d.Points[i].ID+" is bad", func() bool { r := last(i); return r.Quality.IsBad() })
	}
}

func TestMeasuresAreTakenAsOftenAsTheyAreWorth(t *testing.T) {
	cam := &rtspCamera{sdp: sdpH264, fps: 20, pictures: true}
	l := listen(t, cam.serve)
	d := device("gate", profile.CameraDefaults{RTSP: "rtsp://" + l.addr + "/live"}, 100*time.Millisecond, profile.CameraAnswerTime, profile.CameraFrameRate)
	d.Points[1].Interval = time.Hour
	rec := start(t, testConfig(), d)
	rec.Wait(t, "five answers", func() bool { return len(rec.Readings("gate", 0)) >= 5 })
	if n := len(rec.Readings("gate", 1)); n != 1 {
		t.Errorf("%d samples of the stream", n)
	}
	l.stop()
	rec.Wait(t, "the rate is bad though it is not due", func() bool { r, _ := rec.Last("gate", 1); return r.Quality.IsBad() })
	l.start(t, cam.serve)
	rec.Wait(t, "the rate is taken anew", func() bool { r, _ := rec.Last("gate", 1); return r.Quality == 0 })
}

func TestThePasswordIsReadWhereItIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret+"\r\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CAMERA_PASSWORD", secret)
	for name, c := range map[string]Config{
		"file":        {User: userName, PasswordFile: file},
		"environment": {User: userName, PasswordEnv: "CAMERA_PASSWORD"},
		"itself":      {User: userName, Password: secret},
	} {
		if l, err := c.login(); err != nil || l != (login{userName, secret}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := device("gate", profile.CameraDefaults{RTSP: "rtsp://127.0.0.1:1/live"}, time.Second, profile.CameraAnswerTime)
	rec := start(t, &Config{User: userName, PasswordFile: file + "x"}, d)
	rec.Wait(t, "the missing file is said", func() bool {
		s := rec.State("gate")
		return s.Known && s.Reason == telemetry.ReasonConfiguration && strings.Contains(s.Detail, "password_file")
	})
}

func TestFaultsOfTheConfigurationAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want []string
	}{
		"nothing":       {Config{}, nil},
		"two passwords": {Config{User: "u", Password: "a", PasswordEnv: "B"}, []string{"password"}},
		"no user":       {Config{PasswordEnv: "B"}, []string{"user"}},
		"no password":   {Config{User: "u"}, []string{"password_file"}},
		"no trust":      {Config{Insecure: true, CAFile: "x"}, []string{"insecure"}},
		"out of bounds": {Config{Timeout: time.Hour, Sample: time.Hour, FrozenAfter: 1, Parallel: -1}, []string{"timeout", "sample", "frozen_after", "parallel"}},
	} {
		var got []string
		for _, p := range c.cfg.Validate() {
			got = append(got, p.Field)
			if p.Hint == "" {
				t.Errorf("%s: %v has no hint", name, p)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, c := range map[string]struct {
		dev  *driver.Device
		want string
	}{
		"nowhere":             {device("d", profile.CameraDefaults{}, 1, profile.CameraDark), "profile: nothing says where to find the camera"},
		"a user in it":        {device("d", profile.CameraDefaults{RTSP: "rtsp://u:p@h/x"}, 1, profile.CameraCodec), "with: holds a user: write it under the connection's user and password_file"},
		"another scheme":      {device("d", profile.CameraDefaults{Snapshot: "rtsp://h/x"}, 1, profile.CameraDark), `with: begins with "rtsp", not with http:// or https://`},
		"no host":             {device("d", profile.CameraDefaults{Snapshot: "http:///x"}, 1, profile.CameraDark), "with: names no host"},
		"the other one":       {device("d", profile.CameraDefaults{Snapshot: "http://h/x"}, 1, profile.CameraCodec), `points: nothing says where point "codec" is to be got from`},
		"a point of a broker": {&driver.Device{Points: []profile.Point{{ID: "t", Topic: "x"}}}, `connection: point "t" is none of a camera`},
	} {
		ps := CheckDevice(c.dev)
		if len(ps) != 1 || ps[0].Error() != c.want {
			t.Errorf("%s: %v", name, ps)
		}
	}
}
