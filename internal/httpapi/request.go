package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"taskflow/internal/auth"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// request is what the handlers need to know of a request besides its parameters and its decoded body.
type request struct {
	id     string
	caller auth.Caller // who sent it, once authorize has found out
	// traceparent is where the request stands in a trace; "" where it stands in none. With tracing it is this server's own
	// span, else the caller's header.
	traceparent string
	method      string
	path        string // as received, escaped
	// flow is the one whose callback this is; the zero UUID where it is none.
	flow  uuid.UUID
	body  []byte // as received
	value any    // of a batch's body, as guardJSON returns it, until its commands are made
	// ifMatch is the header of a call that takes none: it is refused, not passed over.
	ifMatch *string
	accept  []string
	// credentials are the Authorization headers, for what lasts longer than they may.
	credentials []string
	// client is the request's context without the deadline of an answer: it ends when the client goes, or the server.
	client  context.Context
	lasting bool // it became a stream or a wait
	answer  statusRecorder
	// operation is what the request was routed to, once authorize has looked; nil where that is no operation of the contract.
	operation *operation
	route     *chi.Context
}

// open is the context of what lasts longer than an answer may take, a stream or a wait.
func (r *request) open() context.Context { return &requestContext{r.client, r} }

// connection is what the request came on.
func (r *request) connection() *http.ResponseController {
	return http.NewResponseController(r.answer.ResponseWriter)
}

// extend gives an answer more time than an ordinary one has.
func (r *request) extend(d time.Duration) error {
	if err := r.connection().SetWriteDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("extending a request: %w", err)
	}
	return r.unhurried()
}

// unhurried lifts the deadline for reading the request: it has been read, and the server would take the end of that time
// for the client's going.
func (r *request) unhurried() error {
	if err := r.connection().SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("extending a request: %w", err)
	}
	return nil
}

type requestKey struct{}

// requestContext is a context that has the request, and its place in the router, which then makes no context of its own.
type requestContext struct {
	context.Context
	request *request
}

func (c *requestContext) Value(key any) any {
	switch key {
	case requestKey{}:
		return c.request
	case chi.RouteCtxKey:
		return c.request.route
	}
	return c.Context.Value(key)
}

// requestOf is the request of a context that passed identify.
func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

func requestID(ctx context.Context) string {
	if r := requestOf(ctx); r != nil {
		return r.id
	}
	return ""
}

var safeID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,128}$`)

// identify gives each request an id (its own X-Request-Id, where it is a plain one), its place in a trace and a deadline,
// tells how it went, and answers a panic with a problem. It stands before the router.
func (a *api) identify(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	info := &request{
		id: r.Header.Get("X-Request-Id"), method: r.Method, path: r.URL.EscapedPath(), accept: r.Header["Accept"],
		credentials: r.Header["Authorization"], route: routes.Get().(*chi.Context),
		answer: statusRecorder{ResponseWriter: w, stopping: &a.stopping},
	}
	info.route.Reset()
	info.route.Routes = a.router
	if match := r.Header["If-Match"]; len(match) > 0 {
		info.ifMatch = &match[0]
	}
	if info.id == "" || !safeID.MatchString(info.id) {
		info.id = newID().String()
	}
	if prefer := r.Header["Prefer"]; len(prefer) > 1 { // RFC 7240: as one line
		r.Header.Set("Prefer", strings.Join(prefer, ", "))
	}
	client, ended := a.trace(r, info)
	info.client = client
	bounded, cancel := context.WithTimeout(client, a.options.RequestTimeout)
	defer cancel()
	ctx := &requestContext{bounded, info}
	r = r.WithContext(ctx)
	header := w.Header()
	header["X-Request-Id"] = []string{info.id}
	secure(header)
	defer func() {
		if p := recover(); p != nil {
			a.log.ErrorContext(ctx, "panic in a handler", "request_id", info.id, info.traceID(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if info.answer.status == 0 {
				a.writeProblem(&info.answer, r, fmt.Errorf("panic: %v", p))
			}
		}
		took, pattern, status := time.Since(began), route(r), info.answer.status
		ended(pattern, info.flowOf(pattern, r, header), status)
		a.options.Observer.Request(pattern, r.Method, status, took, info.lasting)
		if a.log.Enabled(ctx, slog.LevelDebug) {
			a.log.DebugContext(ctx, "request", "request_id", info.id, info.traceID(), "method", r.Method, "route", pattern,
				"status", status, "duration", took)
		}
		routes.Put(info.route)
	}()
	a.router.ServeHTTP(&info.answer, r)
}

// routes keeps places in the router for the next request.
var routes = sync.Pool{New: func() any { return chi.NewRouteContext() }}

// Header values that most answers share; they are never altered.
var (
	noSniff    = []string{"nosniff"}
	noStore    = []string{"no-store"}
	noSource   = []string{"default-src 'none'; frame-ancestors 'none'"}
	noReferrer = []string{"no-referrer"}
	jsonType   = []string{"application/json"}
)

// secure sets what every answer tells a browser: to take it for nothing else than it says, to run and frame nothing of it,
// and to tell no other site of it. Pages loosen the policy by what they need.
func secure(header http.Header) {
	header["X-Content-Type-Options"] = noSniff
	header["Cache-Control"] = noStore
	header["Content-Security-Policy"] = noSource
	header["Referrer-Policy"] = noReferrer
}

// newID is a version 7 id, which sorts by the time it was made.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) } // fails only where the system has no randomness

// Each request has an id: their randomness is fetched for some at a time. It must be said before the first is made.
func init() { uuid.EnableRandPool() }

// route is the pattern of the request's route: unlike its path it names no flow, and there are few.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	return r.Pattern
}

// statusRecorder notes the status of an answer for the log, and makes an answer the last on its connection where the server
// is stopping by the time it is given.
type statusRecorder struct {
	http.ResponseWriter
	status   int
	stopping *atomic.Bool
}

func (w *statusRecorder) begin(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if w.stopping.Load() {
		w.Header().Set("Connection", "close")
	}
}

func (w *statusRecorder) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(body []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(body)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// readBody reads a body up to the limit.
func (a *api) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.options.MaxBody))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, newProblem(slugPayloadTooLarge, fmt.Sprintf("The body is over %d bytes.", a.options.MaxBody))
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Slow clients meet this, and those of a server that stood still: their request is as good as any.
		return nil, &problem{slug: slugUnavailable, detail: "The body did not arrive in time. Nothing was changed.", cause: err}
	case err != nil:
		return nil, newProblem(slugInvalidRequest, "The body did not arrive whole.")
	}
	return body, nil
}
