package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/engine"
	"taskflow/internal/httpapi/oas"
	"taskflow/internal/store"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"
	"golang.org/x/sync/singleflight"
)

// Options of the server. MaxBody, MaxState, RequestTimeout, MaxStreams, StreamPatience, PublicURL and Gate must be set; of the
// others the zero value may be meant. cmd/server has the defaults.
type Options struct {
	// RequireIfMatch answers a change of a flow without If-Match with 428.
	RequireIfMatch bool
	// MaxBody and MaxState bound a request's body, and a flow's state after a caller's merge as well as every JSON
	// value in a body, in bytes.
	MaxBody  int64
	MaxState int
	// RequestTimeout is when a request is given up.
	RequestTimeout time.Duration
	// MaxStreams is how many live streams and requests that wait may be open at once. StreamPatience is how long a stream's
	// client may take to read what is sent to it, before it is cut off.
	MaxStreams     int
	StreamPatience time.Duration
	// CORSOrigins are the origins whose pages may call the API, as scheme://host[:port]; none by default.
	CORSOrigins []string
	// SchemaVersion is the least version of the database's schema that this program can serve.
	SchemaVersion int64
	// PublicURL is where the outside reaches this server, without a slash at the end: the base of callback URLs.
	PublicURL string
	// TimerHorizon is how far ahead a wait may end.
	TimerHorizon time.Duration
	// Gate tells who sent a request.
	Gate *auth.Gate
	// OnlyHosts has requests refused that are for another host than these and the names of this machine itself; nil takes
	// any host.
	OnlyHosts []string
	// Rate bounds the requests a second of each caller; nil does not.
	Rate *auth.Rate
	// Streams bounds the streams that each caller has open.
	Streams *auth.Streams
	// MaxOpenFlows is how many flows that have not ended a caller may have; 0 is no limit.
	MaxOpenFlows int64
	// SecretKey, 32 bytes, seals the secrets of verified callbacks; nil keeps them as they are.
	SecretKey []byte
	// Pages are served by GET and HEAD as they are, to everybody, each at its path: the dashboard. None may be at a path of
	// the API.
	Pages  map[string]http.Handler
	Logger *slog.Logger
	// Observer is told of requests and changes; nil is nobody.
	Observer Observer
	// Trace begins the spans of requests; nil is no tracing.
	Trace TraceRequest
	// Metrics serves /metrics; nil is no such route, as where they are served on an address of their own.
	Metrics http.Handler
}

// Server answers the API.
type Server struct {
	http.Handler
	api  *api
	stop context.CancelFunc
	work sync.WaitGroup
}

// api holds what the handlers share.
type api struct {
	engine     *engine.Engine
	reader     store.Reader
	options    Options
	operations operations
	keys       *keyring
	secrets    sealer
	router     chi.Router
	stopping   atomic.Bool
	// accepting ends when no new requests are to be sent here: with it, streams and waits end.
	accepting  context.Context
	endStreams context.CancelFunc
	streams    atomic.Int64 // open streams and waits
	readiness  singleflight.Group
	log        *slog.Logger
}

// New builds the server over an engine for changes and a store for reads. It owns one goroutine that keeps the callback keys
// fresh, until Close; where there is none yet, the server is not ready and callbacks cannot be waited for.
func New(ctx context.Context, e *engine.Engine, reader store.Reader, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	if o.Gate == nil {
		return nil, errors.New("nothing says who may call")
	}
	contract, err := loadSpec()
	if err != nil {
		return nil, err
	}
	a := &api{engine: e, reader: reader, options: o, operations: contract.operations, log: o.Logger, keys: &keyring{reader: reader, log: o.Logger}}
	a.accepting, a.endStreams = context.WithCancel(context.Background())
	if a.secrets, err = newSealer(o.SecretKey); err != nil {
		return nil, err
	}
	if err := a.keys.load(ctx); err != nil {
		a.log.WarnContext(ctx, "the callback keys cannot be read yet", "error", err)
	}
	protect, err := a.crossOrigin()
	if err != nil {
		return nil, err
	}
	r := chi.NewRouter()
	a.router = r
	r.Use(protect, middleware.GetHead)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		a.writeProblem(w, r, newProblem(slugNotFound, noRoute))
	})
	r.MethodNotAllowed(a.methodNotAllowed)
	a.routeDocs(r, contract.asJSON)
	for path, page := range o.Pages {
		r.Method(http.MethodGet, path, page)
	}
	badRequest := func(w http.ResponseWriter, r *http.Request, err error) { a.writeProblem(w, r, bindingProblem(err)) }
	strict := oas.NewStrictHandlerWithOptions(a, nil, oas.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: badRequest, ResponseErrorHandlerFunc: a.writeProblem,
	})
	oas.HandlerWithOptions(strict, oas.ChiServerOptions{BaseRouter: r.With(a.authorize, a.check), ErrorHandlerFunc: badRequest})
	a.routeCallbacks(r)
	if o.Metrics != nil {
		r.With(a.only(auth.Admin)).Method(http.MethodGet, "/metrics", o.Metrics)
	}
	refreshing, stop := context.WithCancel(context.Background())
	server := &Server{Handler: http.HandlerFunc(a.identify), api: a, stop: stop}
	server.work.Go(func() { a.keys.refreshAll(refreshing) })
	return server, nil
}

// Close ends the server's own goroutine and, where StopAccepting has not, streams and waits. Other requests are the
// caller's to end.
func (s *Server) Close() {
	s.StopAccepting()
	s.stop()
	s.work.Wait()
}

// StopAccepting makes /readyz fail from now on and each answer the last on its connection, so that no new requests are sent
// here, ends streams, and has requests that wait answered. Their clients go on elsewhere.
func (s *Server) StopAccepting() {
	s.api.stopping.Store(true)
	s.api.endStreams()
}

// crossOrigin lets pages of the configured origins call the API, and refuses changes that a browser sends for any other
// page.
func (a *api) crossOrigin() (func(http.Handler) http.Handler, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range a.options.CORSOrigins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("origin %q: %w", origin, err)
		}
		if strings.Contains(origin, "*") { // the library below takes it for any text
			return nil, fmt.Errorf("origin %q: it must be one", origin)
		}
	}
	// A form on a callback's page, which has no referrer, is sent with Origin: null over plain HTTP.
	protection.AddInsecureBypassPattern("POST /callbacks/")
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.writeProblem(w, r, newProblem(slugForbidden, "The request was sent by a page of an origin this server does not know."))
	}))
	if len(a.options.CORSOrigins) == 0 {
		return protection.Handler, nil
	}
	headers := cors.Handler(cors.Options{
		AllowedOrigins: a.options.CORSOrigins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Prefer", "Traceparent", "Tracestate", "X-Request-Id"},
		ExposedHeaders: []string{"ETag", "Location", "Idempotent-Replayed", "Preference-Applied", "Retry-After", "Taskflow-Stale-Observation", "WWW-Authenticate", "X-Request-Id"},
		MaxAge:         600, // seconds
	})
	return func(next http.Handler) http.Handler { return headers(protection.Handler(next)) }, nil
}

const noRoute = "There is no such route."

// methodNotAllowed answers 405 with the methods that the route has.
func (a *api) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if r.URL.RawPath != "" {
		path = r.URL.RawPath
	}
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if a.router.Match(chi.NewRouteContext(), method, path) {
			if allow = append(allow, method); method == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
		}
	}
	if len(allow) == 0 { // the router does not look further at a method that HTTP does not define
		a.writeProblem(w, r, newProblem(slugNotFound, noRoute))
		return
	}
	p := newProblem(slugMethodNotAllowed, "This route takes "+strings.Join(allow, ", ")+".")
	p.allow = strings.Join(allow, ", ")
	a.writeProblem(w, r, p)
}

// bindingProblem says what the generated server found wrong while it bound a request's parameters or its body. The
// checks before it leave it little to find: a header sent twice, a number too large for its type.
func bindingProblem(err error) error {
	switch e := err.(type) {
	case *oas.TooManyValuesForParamError:
		return badHeader(e.ParamName, "must be sent once")
	case *oas.InvalidParamFormatError:
		if e.ParamName == "id" || e.ParamName == "run_id" {
			return newProblem(slugNotFound, "There is no such flow or step.")
		}
		return badQuery(e.ParamName, "has a value that is not allowed")
	}
	return newProblem(slugInvalidRequest, "The request cannot be read.")
}
