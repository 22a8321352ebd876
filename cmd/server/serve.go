package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/httpapi"
)

type serveCommand struct {
	Listen               string         `env:"TASKFLOW_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to listen."`
	Auth                 authentication `env:"TASKFLOW_AUTH" default:"none" help:"Who may call: none serves this machine only."`
	AllowUnauthenticated bool           `env:"TASKFLOW_ALLOW_UNAUTHENTICATED" help:"Listen on other addresses without authentication all the same."`
	RequireIfMatch       bool           `env:"TASKFLOW_REQUIRE_IF_MATCH" help:"Answer a change of a flow without If-Match with 428."`
	MaxBody              byteSize       `env:"TASKFLOW_MAX_BODY" default:"1MiB" placeholder:"SIZE" help:"The largest body of a request."`
	MaxState             byteSize       `env:"TASKFLOW_MAX_STATE" default:"256KiB" placeholder:"SIZE" help:"The largest state of a flow, and the largest JSON value in a body."`
	IdempotencyTTL       period         `name:"idempotency-ttl" env:"TASKFLOW_IDEMPOTENCY_TTL" default:"P1D" placeholder:"DURATION" help:"How long the answer to an Idempotency-Key is kept."`
	CORSOrigins          []string       `name:"cors-origins" env:"TASKFLOW_CORS_ORIGINS" placeholder:"ORIGIN" help:"Origins whose pages may call the API, separated by commas."`
}

const (
	requestTimeout = 30 * time.Second
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	// Shutting down takes 15 s at most, and most of it only where the database gives no answer.
	requestsPatience = 7 * time.Second // for the requests under way
	answersPatience  = time.Second     // for telling the others that nobody knows what became of them
	queuePatience    = 4 * time.Second // for changes that were queued and whose clients have been told so
	closePatience    = time.Second     // for giving back connections
)

// Validate refuses origins that are none.
func (c *serveCommand) Validate() error {
	protection := http.NewCrossOriginProtection()
	for _, origin := range c.CORSOrigins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("TASKFLOW_CORS_ORIGINS: %w", err)
		}
	}
	return nil
}

// Run serves until ctx ends, then shuts down in reverse: not ready, no new connections, the requests under way
// answered, the queue drained, the store closed.
func (c *serveCommand) Run(ctx context.Context, config *databaseConfig, log *slog.Logger) error {
	if err := checkListen(c.Listen, c.Auth, c.AllowUnauthenticated); err != nil {
		return err
	}
	db, err := config.open(ctx, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped while waiting for the database")
		return nil
	}
	if err != nil {
		return err
	}
	changes := engine.New(db, engine.Options{Committers: db.committers, AnswerTTL: time.Duration(c.IdempotencyTTL), Logger: log})
	api, err := httpapi.New(changes, db, httpapi.Options{
		RequireIfMatch: c.RequireIfMatch, MaxBody: int64(c.MaxBody), MaxState: int(c.MaxState),
		RequestTimeout: requestTimeout, CORSOrigins: c.CORSOrigins, SchemaVersion: db.schemaVersion, Logger: log,
	})
	if err == nil {
		err = c.listenAndServe(ctx, api, log)
	}
	finish(changes, db, log)
	log.Info("stopped")
	return err
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
	requests, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	server := &http.Server{
		BaseContext: func(net.Listener) context.Context { return requests },
		Handler:     api, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout,
		WriteTimeout: requestTimeout + bodyTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
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
	if err := shutDown(server, requestsPatience); err != nil {
		log.Warn("some requests are answered with an unknown outcome", "error", err)
		giveUp()
		if err := shutDown(server, answersPatience); err != nil {
			log.Warn("requests were cut off", "error", err)
			_ = server.Close() // the listener is closed already; this drops the connections
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
