package telemetry

import (
	"io"
	"log/slog"
	"os"

	"github.com/mattn/go-isatty"
)

// NewLogger makes a log. format is text, json, or auto: text on a terminal, else json.
func NewLogger(out io.Writer, format string, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	terminal := false
	if f, ok := out.(*os.File); ok {
		terminal = isatty.IsTerminal(f.Fd())
	}
	if format == "text" || format == "auto" && terminal {
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}
