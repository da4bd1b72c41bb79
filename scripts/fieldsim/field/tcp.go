package field

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// LineTCP is the name of the Modbus TCP endpoint where a line is asked for.
const LineTCP = "tcp"

// runTCP serves Modbus TCP until ctx ends.
func (f *Field) runTCP(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = f.tcp.Close() })
	defer stop()
	for {
		c, err := f.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("modbus tcp: %w", err)
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer stop()
			defer func() { _ = c.Close() }()
			f.serveTCP(c)
		})
	}
}

// serveTCP answers the requests of one connection, one after the other, until
// it ends or sends what is not Modbus.
func (f *Field) serveTCP(c net.Conn) {
	var head [7]byte
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(head[4:])) - 1
		if binary.BigEndian.Uint16(head[2:]) != 0 || n < 1 || n > 253 {
			return
		}
		pdu := make([]byte, n)
		if _, err := io.ReadFull(c, pdu); err != nil {
			return
		}
		reply, ok := f.serve(LineTCP, head[6], pdu)
		if !ok {
			continue // a gateway whose unit is dead stays silent
		}
		out := append([]byte{head[0], head[1], 0, 0, 0, 0, head[6]}, reply...)
		binary.BigEndian.PutUint16(out[4:], uint16(len(reply)+1))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
