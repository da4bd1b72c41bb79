package mqtt

import (
	"strconv"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/profile"
)

func TestDriverSuite(t *testing.T) {
	drivertest.Run(t, func(t testing.TB) drivertest.Fixture {
		b := newBroker(t)
		devices := []*driver.Device{
			dev("one", profile.Point{ID: "v", Topic: "one", Path: "v"}),
			dev("two", profile.Point{ID: "v", Topic: "two"}),
		}
		devices[1].MQTT.Availability = &profile.Availability{Topic: "two/state", Online: []string{"online"}, Offline: []string{"offline"}}
		return drivertest.Fixture{
			Source:  &Config{URL: "tcp://" + b.addr, MaxReconnect: 200 * time.Millisecond},
			Devices: devices,
			Show: func(device int, v float64) {
				text := strconv.FormatFloat(v, 'g', -1, 64)
				if device == 0 {
					b.publish("one", `{"v":`+text+`}`, false, 0)
				} else {
					b.publish("two", text, false, 0)
				}
			},
			Silence: func(device int, silent bool) {
				word := "online"
				if silent {
					word = "offline"
				}
				b.publish([]string{"one", "two"}[device]+"/state", word, true, 1)
			},
			Cut: func(away bool) {
				if away {
					b.stop()
				} else {
					b.start()
				}
			},
		}
	})
}
