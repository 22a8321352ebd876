package main

import (
	"log/slog"
	"runtime/debug"
)

// logConfig is how the log is written. It goes to standard error and never holds bodies, keys or tokens.
type logConfig struct {
	Format logFormat  `name:"log-format" env:"TASKFLOW_LOG_FORMAT" default:"auto" help:"text or json; auto is text on a terminal, else json."`
	Level  slog.Level `name:"log-level" env:"TASKFLOW_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error; debug logs every request."`
}

// release is the version that the linker was given (-X main.release=v1.2.3), "" where it was given none.
var release string

// version is the release, or else the version of the module this program was built from.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
