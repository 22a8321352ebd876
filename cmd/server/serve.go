package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/dashboard"
	"taskflow/internal/engine"
	"taskflow/internal/httpapi"

	"golang.org/x/net/netutil"
)

type serveCommand struct {
	Access          authConfig      `embed:""`
	Connections     httpConfig      `embed:""`
	Telemetry       telemetryConfig `embed:""`
	Listen          string          `env:"TASKFLOW_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to listen."`
	RequireIfMatch  bool            `env:"TASKFLOW_REQUIRE_IF_MATCH" help:"Answer a change of a flow without If-Match with 428."`
	MaxBody         byteSize        `env:"TASKFLOW_MAX_BODY" default:"1MiB" placeholder:"SIZE" help:"The largest body of a request."`
	MaxState        byteSize        `env:"TASKFLOW_MAX_STATE" default:"256KiB" placeholder:"SIZE" help:"The largest state of a flow, and the largest JSON value in a body."`
	PublicURL       string          `name:"public-url" env:"TASKFLOW_PUBLIC_URL" placeholder:"URL" help:"Where the outside reaches this server: the base of callback URLs. From the listen address where it is not given."`
	TimerMaxHorizon period          `env:"TASKFLOW_TIMER_MAX_HORIZON" default:"P366D" placeholder:"DURATION" help:"How far ahead a wait may end."`
	SecretKey       *string         `env:"TASKFLOW_SECRET_KEY" placeholder:"KEY" help:"32 bytes in base64, the same for every server: encrypts the secrets of verified callbacks."`
	RetainTerminal  retention       `env:"TASKFLOW_RETAIN_TERMINAL" default:"0" placeholder:"DURATION" help:"How long flows are kept after they ended; 0 is for ever."`
	IdempotencyTTL  period          `name:"idempotency-ttl" env:"TASKFLOW_IDEMPOTENCY_TTL" default:"P1D" placeholder:"DURATION" help:"How long the answer to an Idempotency-Key is kept."`
	CORSOrigins     []string        `name:"cors-origins" env:"TASKFLOW_CORS_ORIGINS" placeholder:"ORIGIN" help:"Origins whose pages may call the API, separated by commas."`
}

const (
	startPatience = 5 * time.Second // for a database that is not there yet: the server listens all the same
	// Shutting down takes 15 s at most, and most of it only where the database gives no answer.
	turnover         = 500 * time.Millisecond  // for busy connections to be told that they end, before idle ones are closed
	requestsPatience = 6500 * time.Millisecond // for the requests under way
	answersPatience  = time.Second             // for telling the others that nobody knows what became of them
	queuePatience    = 4 * time.Second         // for changes that were queued and whose clients have been told so; before it notePatience, after it telemetryPatience
	closePatience    = time.Second             // for giving back connections
)

// Validate refuses origins that are none.
func (c *serveCommand) Validate() error {
	protection := http.NewCrossOriginProtection()
	for _, origin := range c.CORSOrigins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("TASKFLOW_CORS_ORIGINS: %w", err)
		}
		if strings.Contains(origin, "*") { // what sets the headers would take it for any text
			return fmt.Errorf("TASKFLOW_CORS_ORIGINS: %q is not one origin: name each of them", origin)
		}
	}
	if _, err := parseSecretKey(c.SecretKey); err != nil {
		return err
	}
	if public, err := url.Parse(c.PublicURL); c.PublicURL != "" &&
		(err != nil || public.Scheme != "http" && public.Scheme != "https" || public.Host == "" || public.RawQuery != "" || public.Fragment != "") {
		return fmt.Errorf("TASKFLOW_PUBLIC_URL: %q is not a URL like https://flows.example.com", c.PublicURL)
	}
	return nil
}

// Run serves until ctx ends, then shuts down in reverse: not ready, streams ended, no new connections, the requests under
// way answered, the queue drained, the store closed.
func (c *serveCommand) Run(ctx context.Context, config *databaseConfig, log *slog.Logger) error {
	if err := checkListen(c.Listen, c.Access.Auth, c.Access.AllowUnauthenticated); err != nil {
		return err
	}
	watched, err := c.Telemetry.watch(ctx, log)
	if err != nil {
		return err
	}
	defer watched.finish(log)
	db, err := config.open(ctx, log, watched)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped while waiting for the database")
		return nil
	}
	if err != nil {
		return err
	}
	keyless := tryCallbackKey(ctx, db, log)
	door := c.Access.gate(ctx, db, log)
	api, changes, err := c.build(ctx, db, door.Gate, watched, log)
	if err == nil {
		err = c.serve(ctx, api, db, watched, keyless, log)
	}
	door.close(log)
	finish(changes, db, log)
	log.Info("stopped")
	return err
}

// serve answers requests until ctx ends, and looks after what goes on beside them.
func (c *serveCommand) serve(ctx context.Context, api *httpapi.Server, db *database, watched watch, keyless bool, log *slog.Logger) error {
	defer api.Close()
	stopMetrics, err := c.Telemetry.serveMetrics(watched, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	serving, done := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { giveBackAll(serving) })
	if keyless {
		beside.Go(func() { firstCallbackKey(serving, db, log) })
	}
	err = c.listenAndServe(ctx, api, log)
	done()
	beside.Wait()
	return err
}

// tryCallbackKey sees to the first callback key, and reports whether there may still be none.
func tryCallbackKey(ctx context.Context, db *database, log *slog.Logger) (keyless bool) {
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	_, err := addCallbackKey(starting, db, true)
	if err != nil {
		log.WarnContext(ctx, "there is no callback key yet", "error", err)
	}
	return err != nil
}

// build wires the engine and the HTTP interface over the store.
func (c *serveCommand) build(ctx context.Context, db *database, door *auth.Gate, watched watch, log *slog.Logger) (*httpapi.Server, *engine.Engine, error) {
	working := engine.Options{
		Committers: db.committers, AnswerTTL: time.Duration(c.IdempotencyTTL), RetainTerminal: time.Duration(c.RetainTerminal), Logger: log,
	}
	watched.engine(&working)
	changes := engine.New(db, working)
	watched.gauges(changes, db)
	secretKey, err := parseSecretKey(c.SecretKey)
	if err != nil {
		return nil, changes, err
	}
	pages, err := dashboard.Pages()
	if err != nil {
		return nil, changes, err
	}
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	options := httpapi.Options{
		RequireIfMatch: c.RequireIfMatch, MaxBody: int64(c.MaxBody), MaxState: int(c.MaxState),
		RequestTimeout: time.Duration(c.Connections.RequestTimeout), MaxStreams: c.Connections.allStreams(),
		StreamPatience: time.Duration(c.Connections.StreamTimeout), CORSOrigins: c.CORSOrigins, SchemaVersion: db.schemaVersion,
		Gate: door, OnlyHosts: c.onlyHosts(), Rate: auth.NewRate(c.Access.RateLimit, c.Access.RateBurst), Streams: auth.NewStreams(c.Access.MaxStreams), MaxOpenFlows: c.Access.MaxOpenFlows,
		PublicURL: c.publicURL(), TimerHorizon: time.Duration(c.TimerMaxHorizon), SecretKey: secretKey, Pages: pages, Logger: log,
	}
	watched.api(&options, &c.Telemetry)
	api, err := httpapi.New(starting, changes, db, options)
	return api, changes, err
}

// publicURL is the base of callback URLs, without a slash at the end.
func (c *serveCommand) publicURL() string {
	if c.PublicURL != "" {
		return strings.TrimRight(c.PublicURL, "/")
	}
	host, port, _ := net.SplitHostPort(c.Listen) // checked by checkListen
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// onlyHosts are the hosts that requests must be for besides this machine's own names, nil for any. Whoever has to say who
// they are is known by that; where something in front of the server looks, it knows the hosts.
func (c *serveCommand) onlyHosts() []string {
	if c.Access.Auth.on() || c.Access.AllowUnauthenticated {
		return nil
	}
	hosts := []string{c.Listen}
	for _, own := range append([]string{c.PublicURL}, c.CORSOrigins...) {
		if u, err := url.Parse(own); err == nil && u.Host != "" {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

// finish drains the queue and closes the store. Where the database gives no answer it gives up after a while: whoever
// waited for one has been told by then.
func finish(changes *engine.Engine, db *database, log *slog.Logger) {
	draining, cancel := context.WithTimeout(context.Background(), queuePatience)
	defer cancel()
	if err := changes.Close(draining); err != nil {
		log.Warn("changes are left in doubt", "error", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }() // the process ends next, whether this has or not
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case err := <-closed:
		if err != nil {
			log.Warn("closing the database", "error", err)
		}
	case <-patience.C:
		log.Warn("the database was not closed in time")
	}
}

// listenAndServe answers requests until ctx ends, and then those that are under way.
func (c *serveCommand) listenAndServe(ctx context.Context, api *httpapi.Server, log *slog.Logger) error {
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("TASKFLOW_LISTEN: %w", err)
	}
	listener = netutil.LimitListener(listener, c.Connections.MaxConnections)
	requests, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	server := &http.Server{
		BaseContext: func(net.Listener) context.Context { return requests },
		Handler:     api,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	c.Connections.limit(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Shutdown below
	log.Info("listening", "url", "http://"+listener.Addr().String(), "version", version())
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	log.Info("shutting down")
	api.StopAccepting()
	// A connection that is closed between two requests may have the second one under way, and its client in doubt. So the
	// answers of the next moment say that they are the last on their connection.
	_ = listener.Close() // Serve says so
	<-time.After(turnover)
	if err := shutDown(server, requestsPatience); err != nil {
		log.Warn("some requests are answered with an unknown outcome", "error", err)
		giveUp()
		if err := shutDown(server, answersPatience); err != nil {
			log.Warn("requests were cut off", "error", err)
			_ = server.Close() // drops the connections
		}
	}
	<-served
	return nil
}

// shutDown takes no more connections and waits until every request is answered, or until patience ends.
func shutDown(server *http.Server, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return server.Shutdown(ctx)
}
