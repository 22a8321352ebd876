package main

import (
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/mattn/go-isatty"
)

// logConfig is how the log is written. It goes to standard error and never holds bodies, keys or tokens.
type logConfig struct {
	Format logFormat  `name:"log-format" env:"TASKFLOW_LOG_FORMAT" default:"auto" help:"text or json; auto is text on a terminal, else json."`
	Level  slog.Level `name:"log-level" env:"TASKFLOW_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error; debug logs every request."`
}

func (c logConfig) logger(out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	terminal := false
	if f, ok := out.(*os.File); ok {
		terminal = isatty.IsTerminal(f.Fd())
	}
	if c.Format == "text" || c.Format == "auto" && terminal {
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}

// version is the version of the module this program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
