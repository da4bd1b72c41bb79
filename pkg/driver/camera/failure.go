package camera

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// failure says why a camera gave nothing, for the quality of its readings and
// for a technician. The zero failure is success.
type failure struct {
	reason telemetry.Reason
	text   string
}

func (f failure) failed() bool { return f.reason != telemetry.ReasonNone }

func failuref(r telemetry.Reason, format string, args ...any) failure {
	return failure{r, fmt.Sprintf(format, args...)}
}

// Errors of our own bounds.
var (
	errElsewhere = errors.New("it sends us to another host")
	errTooMuch   = errors.New("it sends more than is looked at")
)

// judge makes a failure of an error while host was asked for something.
func judge(err error, host string) failure {
	var (
		status liberrors.ErrClientBadStatusCode
		sdp    liberrors.ErrClientSDPInvalid
		dns    *net.DNSError
		op     *net.OpError
	)
	dialing := errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.Is(err, errElsewhere), errors.Is(err, errTooMuch):
		return failuref(telemetry.ReasonMalformed, "%s: %v", host, err)
	case errors.As(err, &status):
		return judgeStatus(int(status.Code), host)
	case errors.As(err, &sdp):
		return failuref(telemetry.ReasonMalformed, "%s describes its stream in a way that is not understood: %v", host, sdp.Err)
	case errors.As(err, &dns):
		return failuref(telemetry.ReasonUnreachable, "the name %s is not known", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return failuref(telemetry.ReasonUnreachable, "%s refuses the connection, nothing listens there", host)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return failuref(telemetry.ReasonUnreachable, "there is no way to %s", host)
	case dialing:
		return failuref(telemetry.ReasonUnreachable, "%s cannot be reached: %s", host, plain(err))
	case timedOut(err):
		return failuref(telemetry.ReasonNoAnswer, "%s does not answer in time", host)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		return failuref(telemetry.ReasonNoAnswer, "%s closed the connection", host)
	}
	return failuref(telemetry.ReasonBadFrame, "%s: %s", host, plain(err))
}

func timedOut(err error) bool {
	var (
		ne   net.Error
		rtsp liberrors.ErrClientRequestTimedOut
		tcp  liberrors.ErrClientTCPTimeout
	)
	return errors.As(err, &rtsp) || errors.As(err, &tcp) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// judgeStatus makes a failure of a status, which RTSP has in common with HTTP.
func judgeStatus(code int, host string) failure {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return failuref(telemetry.ReasonConfiguration, "%s refuses the user or the password (status %d)", host, code)
	case http.StatusNotFound:
		return failuref(telemetry.ReasonConfiguration, "%s has nothing at that path (status %d)", host, code)
	}
	return failuref(telemetry.ReasonException, "%s refuses with status %d", host, code)
}

// plain is the last part of a wrapped error, on one line of bounded length.
func plain(err error) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, err.Error())
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
