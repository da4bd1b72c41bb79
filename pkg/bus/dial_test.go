package bus

import (
	"net"
	"net/url"
	"sync/atomic"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// customDial connects and keeps the connection where the test can cut it.
func customDial(addr string, keep *atomic.Pointer[net.TCPConn]) mqtt.OpenConnectionFunc {
	return func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		keep.Store(c.(*net.TCPConn))
		return c, nil
	}
}
