package main

import (
	"fmt"
	"net/http"
	"time"
)

// httpConfig bounds what one connection may take of the server, and how many there are. Whoever sends or reads too slowly
// is cut off.
type httpConfig struct {
	MaxHeader      byteSize `env:"TASKFLOW_MAX_HEADER" default:"64KiB" placeholder:"SIZE" help:"The largest head of a request: its line and its headers."`
	MaxConnections int      `env:"TASKFLOW_MAX_CONNECTIONS" default:"10000" placeholder:"N" help:"Connections that are served at once; more wait."`
	HeaderTimeout  period   `env:"TASKFLOW_HEADER_TIMEOUT" default:"PT10S" placeholder:"DURATION" help:"How long a request's headers may take to arrive."`
	BodyTimeout    period   `env:"TASKFLOW_BODY_TIMEOUT" default:"PT30S" placeholder:"DURATION" help:"How long a whole request may take to arrive."`
	WriteTimeout   period   `env:"TASKFLOW_WRITE_TIMEOUT" default:"PT1M" placeholder:"DURATION" help:"How long a request may take from its headers to the end of its answer."`
	IdleTimeout    period   `env:"TASKFLOW_IDLE_TIMEOUT" default:"PT2M" placeholder:"DURATION" help:"How long a connection is kept between two requests."`
	RequestTimeout period   `env:"TASKFLOW_REQUEST_TIMEOUT" default:"PT30S" placeholder:"DURATION" help:"When a request is given up and answered with 503; one that waits for news has as long besides."`
	StreamTimeout  period   `env:"TASKFLOW_STREAM_TIMEOUT" default:"PT10S" placeholder:"DURATION" help:"How long the reader of a stream may take for what is sent to it."`
	MaxAllStreams  *int     `env:"TASKFLOW_MAX_ALL_STREAMS" placeholder:"N" help:"Streams and requests that wait which are open at this server, of all callers: fewer than the connections, by default nine tenths of them."`
}

// headSlack is what net/http allows a request's head beyond its limit.
const headSlack = 4096

// Validate refuses what cannot be meant.
func (c *httpConfig) Validate() error {
	if c.MaxConnections < 2 {
		return fmt.Errorf("TASKFLOW_MAX_CONNECTIONS must be at least 2: one for a stream, and one for everything else")
	}
	if c.allStreams() < 1 {
		return fmt.Errorf("TASKFLOW_MAX_ALL_STREAMS must be greater than zero")
	}
	if c.allStreams() >= c.MaxConnections {
		return fmt.Errorf("TASKFLOW_MAX_ALL_STREAMS=%d must be below TASKFLOW_MAX_CONNECTIONS=%d, or streams could take every connection, those of the health checks too", c.allStreams(), c.MaxConnections)
	}
	if c.MaxHeader < 2*headSlack {
		return fmt.Errorf("TASKFLOW_MAX_HEADER must be at least %d", 2*headSlack)
	}
	if c.RequestTimeout >= c.WriteTimeout {
		return fmt.Errorf("TASKFLOW_REQUEST_TIMEOUT must be shorter than TASKFLOW_WRITE_TIMEOUT, or its 503 could not leave any more")
	}
	return nil
}

// allStreams is how many streams of all callers there may be. They hold their connections for as long as they like, so they do
// not get all of them.
func (c *httpConfig) allStreams() int {
	if c.MaxAllStreams != nil {
		return *c.MaxAllStreams
	}
	return c.MaxConnections * 9 / 10
}

// limit sets the limits of a server.
func (c *httpConfig) limit(s *http.Server) {
	s.MaxHeaderBytes = int(c.MaxHeader) - headSlack
	s.ReadHeaderTimeout = time.Duration(c.HeaderTimeout)
	s.ReadTimeout = time.Duration(c.BodyTimeout)
	s.WriteTimeout = time.Duration(c.WriteTimeout)
	s.IdleTimeout = time.Duration(c.IdleTimeout)
}
