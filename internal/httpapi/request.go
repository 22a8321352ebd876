package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// request is what the handlers need to know of a request besides its parameters and its decoded body.
type request struct {
	id     string
	caller string // the name in the audit trail
	method string
	path   string // as received, escaped
	body   []byte // as received
	// ifMatch is the header of a call that takes none: it is refused, not passed over.
	ifMatch *string
	accept  []string
	// open is the request's context without the deadline of an answer: it ends when the client goes, or the server. It is
	// for what lasts longer, a stream or a wait.
	open       context.Context
	connection *http.ResponseController
}

// extend gives an answer more time than an ordinary one has.
func (r *request) extend(d time.Duration) error {
	if err := r.connection.SetWriteDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("extending a request: %w", err)
	}
	return r.unhurried()
}

// unhurried lifts the deadline for reading the request: it has been read, and the server would take the end of that time
// for the client's going.
func (r *request) unhurried() error {
	if err := r.connection.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("extending a request: %w", err)
	}
	return nil
}

type requestKey struct{}

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

// anonymous is the caller of a server without authentication.
const anonymous = "anonymous"

var safeID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,128}$`)

// identify gives each request an id (its own X-Request-Id, where it is a plain one) and a deadline, logs how it went,
// and answers a panic with a problem.
func (a *api) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		info := &request{id: r.Header.Get("X-Request-Id"), caller: anonymous, method: r.Method, path: r.URL.EscapedPath()}
		if match := r.Header.Values("If-Match"); len(match) > 0 {
			info.ifMatch = &match[0]
		}
		if !safeID.MatchString(info.id) {
			info.id = newID().String()
		}
		info.accept, info.connection = r.Header.Values("Accept"), http.NewResponseController(w)
		if prefer := r.Header.Values("Prefer"); len(prefer) > 1 { // RFC 7240: as one line
			r.Header.Set("Prefer", strings.Join(prefer, ", "))
		}
		info.open = context.WithValue(r.Context(), requestKey{}, info)
		ctx, cancel := context.WithTimeout(info.open, a.options.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		w.Header().Set("X-Request-Id", info.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		recorder := &statusRecorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				a.log.ErrorContext(ctx, "panic in a handler", "request_id", info.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if recorder.status == 0 {
					a.writeProblem(recorder, r, fmt.Errorf("panic: %v", p))
				}
			}
			a.log.DebugContext(ctx, "request", "request_id", info.id, "method", r.Method, "route", route(r),
				"status", recorder.status, "duration", time.Since(began))
		}()
		next.ServeHTTP(recorder, r)
	})
}

// newID is a version 7 id, which sorts by the time it was made.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) } // fails only where the system has no randomness

// route is the pattern of the request's route: unlike its path it names no flow, and there are few.
func route(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil && c.RoutePattern() != "" {
		return c.RoutePattern()
	}
	return "none"
}

// statusRecorder notes the status of an answer for the log.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(body []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(body)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
