package settings

import (
	"io"
	"log/slog"
	"runtime/debug"
)

// Exit statuses of both programs.
const (
	ExitOK     = 0
	ExitFailed = 1 // it ran and failed
	ExitUsage  = 2 // the configuration or the call is wrong
)

// NewLogger makes the logger of a program; level and format are those of the
// configuration, which has been checked.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Version returns the version that the build was given, or else what the Go
// toolchain noted, or "unknown".
func Version(built string) string {
	if built != "" {
		return built
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "unknown"
}
