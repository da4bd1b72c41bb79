// Package interop holds tests against servers that were not written here:
// pymodbus, mosquitto, vmagent, Prometheus, InfluxDB's client for Go, promtool, and GStreamer's RTSP server, as Debian has them. They run
// with the build tag interop, see `make interop`; setup.sh installs the servers.
package interop
