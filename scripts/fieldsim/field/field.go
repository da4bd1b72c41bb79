// Package field is a simulated field: the devices of three sites of Lâm Đồng,
// served as real ones are. Weather stations, loop counters and level
// transmitters answer Modbus TCP on one port by their unit ids; climate sensors
// and meters answer Modbus RTU on pseudo-terminals; cameras (as Frigate), Zigbee
// sensors and air monitors publish through an MQTT broker. What they measure are
// the real traces of package traces, a row per second.
//
//	f, err := field.Open(field.Config{ModbusTCP: "127.0.0.1:0", MQTT: "127.0.0.1:0", PTYs: []string{"bus1"}})
//	go f.Run(ctx)
//	f.ModbusAddr() // the port it got
//
// The traces begin to run when the first client comes: the first request, or the
// first that connects to the broker. So what a rule sees does not depend on how
// fast the machine started.
//
// One unit of each site dozes: it does not answer for 12 s of every 40 s.
// Tests set registers, take units and the broker away and bring them back, by
// the methods of [Field] or over HTTP (see [Field.Control]), and compare what was
// stored with what was served (see [Config.Record]).
package field

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Config says what the field serves, and where. Every address must be a loopback
// one; a port of 0 takes a free one.
type Config struct {
	ModbusTCP string   // address; empty: none
	MQTT      string   // address; empty: none
	Control   string   // address of the HTTP control; empty: none
	PTYs      []string // paths of the links to pseudo-terminals, one bus each
	Speed     float64  // rows of the traces per second; 1 when 0
	Seed      uint64   // of what the traces do not give
	Steady    bool     // no unit dozes
	Record    io.Writer
}

// Field is a simulated field. Its methods are safe for concurrent use.
type Field struct {
	speed  float64
	seed   uint64
	steady bool

	units   map[address]*unit
	order   []*unit
	sensors []sensor

	tcp     net.Listener
	buses   []*bus
	broker  *broker
	control net.Listener
	record  *recorder

	mu    sync.Mutex
	began time.Time // of the first contact
	muted map[string]bool
}

// Open takes the addresses and makes the pseudo-terminals; nothing is answered
// before Run, which gives everything back. When Run is never called, call Close.
func Open(cfg Config) (*Field, error) {
	for _, a := range []string{cfg.ModbusTCP, cfg.MQTT, cfg.Control} {
		if err := loopback(a); err != nil {
			return nil, err
		}
	}
	if len(cfg.PTYs) != len(slices.Compact(slices.Sorted(slices.Values(cfg.PTYs)))) {
		return nil, errors.New("two pseudo-terminals have the same path")
	}
	f := &Field{
		speed: cfg.Speed, seed: cfg.Seed, steady: cfg.Steady,
		units: make(map[address]*unit), muted: make(map[string]bool), record: newRecorder(cfg.Record),
	}
	if f.speed <= 0 {
		f.speed = 1
	}
	if err := f.build(cfg.PTYs); err != nil {
		return nil, err
	}
	err := func() error {
		var err error
		if cfg.ModbusTCP != "" {
			if f.tcp, err = net.Listen("tcp", cfg.ModbusTCP); err != nil {
				return fmt.Errorf("modbus tcp: %w", err)
			}
		}
		if cfg.MQTT != "" {
			f.broker = &broker{touched: f.touch, addr: cfg.MQTT}
			if err = f.broker.up(); err != nil {
				return err
			}
		}
		if cfg.Control != "" {
			if f.control, err = net.Listen("tcp", cfg.Control); err != nil {
				return fmt.Errorf("control: %w", err)
			}
		}
		for _, p := range cfg.PTYs {
			b, err := openBus(p)
			if err != nil {
				return err
			}
			f.buses = append(f.buses, b)
		}
		return nil
	}()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close gives back what Open took.
func (f *Field) Close() error {
	var errs []error
	closed := func(err error) {
		if !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if f.tcp != nil {
		closed(f.tcp.Close())
	}
	if f.control != nil {
		closed(f.control.Close())
	}
	if f.broker != nil {
		errs = append(errs, f.broker.down())
	}
	for _, b := range f.buses {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, and has closed everything when it returns. It
// returns early with an error when a part cannot go on.
func (f *Field) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	part := func(run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				mu.Lock()
				if first == nil {
					first = err
				}
				mu.Unlock()
				cancel()
			}
		})
	}
	if f.tcp != nil {
		part(f.runTCP)
	}
	for _, b := range f.buses {
		part(func(ctx context.Context) error { return f.runBus(ctx, b) })
	}
	if f.broker != nil {
		part(func(ctx context.Context) error { f.runSensors(ctx); return nil })
	}
	if f.control != nil {
		part(f.runControl)
	}
	<-ctx.Done()
	wg.Wait()
	return errors.Join(first, f.Close(), f.record.err())
}

func (f *Field) runControl(ctx context.Context) error {
	s := &http.Server{Handler: f.Control(), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(f.control); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// ModbusAddr returns the address of Modbus TCP, empty when there is none.
func (f *Field) ModbusAddr() string { return addrOf(f.tcp) }

// ControlAddr returns the address of the HTTP control, empty when there is none.
func (f *Field) ControlAddr() string { return addrOf(f.control) }

// MQTTAddr returns the address of the broker, empty when there is none.
func (f *Field) MQTTAddr() string {
	if f.broker == nil {
		return ""
	}
	f.broker.mu.Lock()
	defer f.broker.mu.Unlock()
	return f.broker.addr
}

func addrOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// Lines describes what is served, a line each, for people.
func (f *Field) Lines() []string {
	var out []string
	if f.tcp != nil {
		out = append(out, "modbus tcp on "+f.ModbusAddr())
	}
	for _, b := range f.buses {
		out = append(out, fmt.Sprintf("modbus rtu on %s (%s), 9600 8N1", b.name, b.slave.Name()))
	}
	if f.broker != nil {
		out = append(out, "mqtt on "+f.MQTTAddr())
	}
	if f.control != nil {
		out = append(out, "control on http://"+f.ControlAddr())
	}
	for _, u := range f.order {
		note := ""
		if u.dozes {
			note = ", sometimes does not answer"
		}
		if u.line != LineTCP || f.tcp != nil {
			out = append(out, fmt.Sprintf("unit %d on %s: %s%s", u.id, u.line, u.device, note))
		}
	}
	for _, s := range f.sensors {
		if f.broker != nil {
			out = append(out, fmt.Sprintf("mqtt every %v: %s", s.every, s.device))
		}
	}
	return out
}

// Set makes a register or bit hold a value until Release. Line is [LineTCP] or the
// path of a pseudo-terminal; area is coil, discrete, holding or input.
func (f *Field) Set(line string, unit byte, area string, register int, value uint16) error {
	a, ok := areaOf(area)
	if !ok {
		return fmt.Errorf("no area %q; there are coil, discrete, holding and input", area)
	}
	u, err := f.unit(line, unit)
	if err != nil {
		return err
	}
	return u.force(a, register, value)
}

// Release gives all registers of a unit back to the traces.
func (f *Field) Release(line string, unit byte) error {
	u, err := f.unit(line, unit)
	if err == nil {
		u.release()
	}
	return err
}

// Kill makes a unit stop answering, or answer again.
func (f *Field) Kill(line string, unit byte, dead bool) error {
	u, err := f.unit(line, unit)
	if err == nil {
		u.kill(dead)
	}
	return err
}

func (f *Field) unit(line string, id byte) (*unit, error) {
	if u := f.units[address{line, id}]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("no unit %d on line %q", id, line)
}

// Mute makes a device that publishes stop doing so, or begin again.
func (f *Field) Mute(device string, muted bool) error {
	for _, s := range f.sensors {
		if s.device == device {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.muted[device] = muted
			return nil
		}
	}
	return fmt.Errorf("no device %q publishes", device)
}

func (f *Field) mute(device string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.muted[device]
}

// Publish sends a message through the broker.
func (f *Field) Publish(topic, payload string, retain bool, qos byte) error {
	p := publication{topic, payload, retain}
	if f.broker == nil || qos > 1 || !f.broker.publish(p, qos) {
		return errors.New("the broker is down, or does not take this message")
	}
	f.recordMQTT("", p)
	return nil
}

// Broker takes the broker down, or brings it back on the same address.
func (f *Field) Broker(up bool) error {
	switch {
	case f.broker == nil:
		return errors.New("the field has no broker")
	case up:
		return f.broker.up()
	}
	return f.broker.down()
}

// touch notes that a client has come.
func (f *Field) touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() {
		f.began = time.Now()
	}
}

func (f *Field) touchedYet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.began.IsZero()
}

// since returns the time since the first client came.
func (f *Field) since() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() {
		return 0
	}
	return time.Since(f.began)
}

// row returns where the traces are.
func (f *Field) row() int { return int(f.since().Seconds() * f.speed) }

// loopback reports an address that is not on this machine only.
func loopback(addr string) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("address %q: the simulated field serves this machine only; write 127.0.0.1", addr)
	}
	return nil
}
