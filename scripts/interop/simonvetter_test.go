//go:build interop

package interop

import (
	"io"
	"log"
	"sync"
	"testing"
	"time"

	simonvetter "github.com/simonvetter/modbus"

	"github.com/langbiang/langbiang/pkg/driver/modbus"
)

// registers hold what pymodbus_server.py holds.
type registers struct {
	mu      sync.Mutex
	holding [200]uint16
	coils   [100]bool
}

func newRegisters() *registers {
	r := &registers{}
	for i := range r.holding {
		r.holding[i] = uint16(i)
	}
	for i := range r.coils {
		r.coils[i] = i%2 == 0
	}
	return r
}

func (r *registers) fits(unit uint8, addr, n uint16, most int) error {
	if unit != 1 || int(addr)+int(n) > most {
		return simonvetter.ErrIllegalDataAddress
	}
	return nil
}

func (r *registers) HandleCoils(q *simonvetter.CoilsRequest) ([]bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fits(q.UnitId, q.Addr, q.Quantity, len(r.coils)); err != nil {
		return nil, err
	}
	if q.IsWrite {
		copy(r.coils[q.Addr:], q.Args)
	}
	return append([]bool(nil), r.coils[q.Addr:q.Addr+q.Quantity]...), nil
}

func (r *registers) HandleDiscreteInputs(q *simonvetter.DiscreteInputsRequest) ([]bool, error) {
	return r.HandleCoils(&simonvetter.CoilsRequest{UnitId: q.UnitId, Addr: q.Addr, Quantity: q.Quantity})
}

func (r *registers) HandleHoldingRegisters(q *simonvetter.HoldingRegistersRequest) ([]uint16, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fits(q.UnitId, q.Addr, q.Quantity, len(r.holding)); err != nil {
		return nil, err
	}
	if q.IsWrite {
		copy(r.holding[q.Addr:], q.Args)
	}
	return append([]uint16(nil), r.holding[q.Addr:q.Addr+q.Quantity]...), nil
}

func (r *registers) HandleInputRegisters(q *simonvetter.InputRegistersRequest) ([]uint16, error) {
	return r.HandleHoldingRegisters(&simonvetter.HoldingRegistersRequest{UnitId: q.UnitId, Addr: q.Addr, Quantity: q.Quantity})
}

func TestSimonvetterModbus(t *testing.T) {
	port := freePort(t)
	srv, err := simonvetter.NewServer(&simonvetter.ServerConfiguration{
		URL: "tcp://127.0.0.1:" + port, Timeout: time.Minute, MaxClients: 2, Logger: log.New(io.Discard, "", 0),
	}, newRegisters())
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	readAndWrite(t, &modbus.Config{Address: "127.0.0.1:" + port, Timeout: 5 * time.Second})
}
