package modbus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	goburrow "github.com/goburrow/modbus"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// failure is what a question came to when there is no data. The zero value is
// success.
type failure struct {
	reason    telemetry.Reason
	exception byte
	lost      bool // the connection is gone
	stopped   bool
	text      string // one sentence for a technician, without a full stop
}

func (f *failure) failed() bool { return f.reason != telemetry.ReasonNone || f.stopped }

// answered reports whether the device is there, whatever it said.
func (f *failure) answered() bool {
	return f.reason == telemetry.ReasonNone || f.reason == telemetry.ReasonException
}

// refused reports whether the device said that it does not have what was asked
// for, so that it may still have a part of it. Some give illegal data value for
// a block that is longer than they like.
func (f *failure) refused() bool {
	return f.exception == goburrow.ExceptionCodeIllegalDataAddress || f.exception == goburrow.ExceptionCodeIllegalDataValue
}

// passing reports whether asking again soon may help.
func (f *failure) passing() bool {
	switch f.reason {
	case telemetry.ReasonNoAnswer, telemetry.ReasonBadFrame:
		return true
	case telemetry.ReasonException:
		return f.exception == goburrow.ExceptionCodeServerDeviceBusy || f.exception == goburrow.ExceptionCodeAcknowledge
	}
	return false
}

// judge turns the error of a question into a failure.
func judge(err error, q question, ln line, timeout time.Duration) failure {
	var (
		frame *FrameError
		lost  *lostError
		exc   *goburrow.ModbusError
	)
	switch {
	case err == nil:
		return failure{}
	case errors.Is(err, errStopped):
		return failure{stopped: true}
	case errors.Is(err, errSilence):
		return failure{
			reason: telemetry.ReasonNoAnswer,
			text:   fmt.Sprintf("unit %d does not answer (asked for %s, timeout %v)", q.unit, q, timeout),
		}
	case errors.As(err, &exc):
		return judgeException(exc.ExceptionCode, q)
	case errors.As(err, &frame):
		return failure{
			reason: telemetry.ReasonBadFrame,
			text:   fmt.Sprintf("the answer of unit %d to %s %s", q.unit, q, frame.Msg),
		}
	case errors.As(err, &lost):
		return failure{
			reason: telemetry.ReasonUnreachable, lost: true,
			text: fmt.Sprintf("the connection to %s broke while unit %d was asked for %s: %s", ln.name(), q.unit, q, plain(lost.err)),
		}
	case errors.Is(err, errClosed):
		return failure{reason: telemetry.ReasonUnreachable, lost: true, text: ln.name() + " is not open"}
	}
	// What is left are complaints of goburrow's client about the PDU.
	return failure{
		reason: telemetry.ReasonBadFrame,
		text:   fmt.Sprintf("the answer of unit %d to %s is wrong: %s", q.unit, q, strings.TrimPrefix(err.Error(), "modbus: ")),
	}
}

func judgeException(code byte, q question) failure {
	f := failure{
		reason: telemetry.ReasonException, exception: code,
		text: fmt.Sprintf("unit %d refuses %s: %s (exception %d)", q.unit, q, exceptionName(code), code),
	}
	switch code {
	case goburrow.ExceptionCodeGatewayTargetDeviceFailedToRespond:
		f.reason = telemetry.ReasonNoAnswer
		f.text = fmt.Sprintf("unit %d does not answer the gateway (asked for %s, exception 11)", q.unit, q)
	case goburrow.ExceptionCodeGatewayPathUnavailable:
		f.reason = telemetry.ReasonUnreachable
		f.text = fmt.Sprintf("the gateway has no way to unit %d (asked for %s, exception 10)", q.unit, q)
	}
	return f
}

func exceptionName(code byte) string {
	switch code {
	case goburrow.ExceptionCodeIllegalFunction:
		return "illegal function"
	case goburrow.ExceptionCodeIllegalDataAddress:
		return "illegal data address"
	case goburrow.ExceptionCodeIllegalDataValue:
		return "illegal data value"
	case goburrow.ExceptionCodeServerDeviceFailure:
		return "device failure"
	case goburrow.ExceptionCodeAcknowledge:
		return "accepted, but it takes long"
	case goburrow.ExceptionCodeServerDeviceBusy:
		return "device busy"
	case goburrow.ExceptionCodeMemoryParityError:
		return "memory parity error"
	}
	return "unknown exception"
}

// String returns the registers or bits asked for: "holding 500-513".
func (q question) String() string {
	if q.count == 1 {
		return fmt.Sprintf("%s %d", areaName(q.area), q.address)
	}
	return fmt.Sprintf("%s %d-%d", areaName(q.area), q.address, q.address+q.count-1)
}

func areaName(a profile.Area) string {
	switch a {
	case profile.AreaCoil:
		return "coil"
	case profile.AreaDiscrete:
		return "discrete"
	case profile.AreaHolding:
		return "holding"
	case profile.AreaInput:
		return "input"
	}
	return "nothing"
}

// unreachable says why a connection could not be made.
func unreachable(err error, ln line, limit time.Duration) failure {
	text := fmt.Sprintf("cannot reach %s: %s", ln.name(), plain(err))
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		text = fmt.Sprintf("cannot reach %s: no answer within %v", ln.name(), limit)
	}
	return failure{reason: telemetry.ReasonUnreachable, lost: true, stopped: errors.Is(err, errStopped), text: text}
}

// plain says what an error of the operating system means here.
func plain(err error) string {
	var (
		dns *net.DNSError
		no  syscall.Errno
	)
	switch {
	case errors.Is(err, io.EOF):
		return "the other side closed it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused, nothing listens there"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return "no such device, is the adapter plugged in"
	case errors.Is(err, syscall.EIO):
		return "the adapter is gone"
	case errors.Is(err, os.ErrPermission):
		return "no permission, the agent's user must be in the group of the device (dialout)"
	case errors.Is(err, syscall.EBUSY):
		return ErrPortInUse.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "it takes nothing more"
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s is not known", dns.Name)
	case errors.As(err, &no):
		return no.Error()
	}
	return err.Error()
}
