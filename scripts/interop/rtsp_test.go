//go:build interop

package interop

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func cameraDevice(id, rtsp string) *driver.Device {
	d := &driver.Device{ID: id, Interval: 2 * time.Second, Camera: profile.CameraDefaults{RTSP: rtsp}}
	for _, m := range []string{profile.CameraAnswerTime, profile.CameraCodec, profile.CameraFrameRate, profile.CameraBitRate} {
		pt := profile.Point{ID: m, Camera: m}
		if m == profile.CameraCodec {
			pt.Kind = profile.KindText
		}
		d.Points = append(d.Points, pt)
		d.Convert = append(d.Convert, driver.Linear{Factor: 1})
	}
	return d
}

func TestGStreamerRTSPServer(t *testing.T) {
	for _, login := range []string{"open", "basic", "digest"} {
		t.Run(login, func(t *testing.T) {
			port := freePort(t)
			srv := serve(t, "ready", python, "rtsp_server.py", port, login, "viewer", "geheim")
			base := "rtsp://127.0.0.1:" + port
			h264, jpeg, none := cameraDevice("h264", base+"/h264"), cameraDevice("jpeg", base+"/jpeg"), cameraDevice("none", base+"/none")
			cfg := &camera.Config{Timeout: 30 * time.Second, Sample: time.Second}
			if login != "open" {
				cfg.User, cfg.Password = "viewer", "geheim"
			}
			rec := &drivertest.Recorder{}
			start(t, cfg, rec, h264, jpeg, none)
			for id, codec := range map[string]string{"h264": "H264", "jpeg": "JPEG"} {
				// A busy machine leaves frames out now and then.
				var c, fps, bits drivertest.Reading
				t.Cleanup(func() { t.Logf("%s: %q, %v frames/s, %v bit/s", id, c.Text, fps.Value, bits.Value) })
				rec.Wait(t, id+" is measured with 15 frames a second", func() bool {
					c, _ = rec.Last(id, 1)
					fps, _ = rec.Last(id, 2)
					bits, _ = rec.Last(id, 3)
					return c.Text == codec && fps.Quality == 0 && math.Abs(fps.Value-15) <= 2 && bits.Value >= 10_000 && bits.Value <= 50e6
				})
			}
			rec.Wait(t, "a path that is not there is said", func() bool {
				s := rec.State("none")
				return s.Known && !s.Up && s.Reason == telemetry.ReasonConfiguration && strings.Contains(s.Detail, "nothing at that path")
			})
			srv.stop()
			rec.Wait(t, "it is gone", func() bool { return !rec.State("h264").Up && !rec.State("jpeg").Up })
		})
	}
	t.Run("a wrong password", func(t *testing.T) {
		port := freePort(t)
		serve(t, "ready", python, "rtsp_server.py", port, "digest", "viewer", "geheim")
		rec := &drivertest.Recorder{}
		start(t, &camera.Config{User: "viewer", Password: "falsch"}, rec, cameraDevice("h264", "rtsp://127.0.0.1:"+port+"/h264"))
		rec.Wait(t, "it is said", func() bool {
			s := rec.State("h264")
			return s.Known && s.Reason == telemetry.ReasonConfiguration && strings.Contains(s.Detail, "refuses the user or the password")
		})
	})
}
