package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"taskflow/internal/flows"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// Observer is told what the server does. Its methods are called on the way of every request: they must be quick, safe for
// concurrent use, and hold on to nothing.
type Observer interface {
	// Request: a request was answered. route is the pattern of its route, "none" where it has none; method is whatever
	// the client sent. lasting says that it was a live stream or waited for something new, and so took as long as that
	// lasted.
	Request(route, method string, status int, took time.Duration, lasting bool)
	// Change: a command was answered, sent alone or in a batch, or an external event published. outcome is "ok",
	// "replayed", or the slug of the problem.
	Change(command, outcome string)
	// Problem: a request, or a command of a batch, was answered with the problem of this slug.
	Problem(slug string)
	// Streams: so many live streams and requests that wait were opened, or with a minus sign closed.
	Streams(opened int)
	// StreamCutOff: a live stream was ended because its client did not read.
	StreamCutOff()
}

// TraceRequest begins the span of a request. It returns the context that work for the request runs in, the W3C
// traceparent of the span, "" where there is none, and what ends it: flow is the id of the one flow that the request was
// about, "" where it was about none or many.
type TraceRequest func(r *http.Request) (ctx context.Context, traceparent string, end func(route, flow string, status int))

// unobserved is the Observer of a server without one.
type unobserved struct{}

func (unobserved) Request(string, string, int, time.Duration, bool) {}
func (unobserved) Change(string, string)                            {}
func (unobserved) Problem(string)                                   {}
func (unobserved) Streams(int)                                      {}
func (unobserved) StreamCutOff()                                    {}

// trace finds the request's place in a trace.
func (a *api) trace(r *http.Request, info *request) (ctx context.Context, ended func(route, flow string, status int)) {
	if a.options.Trace != nil {
		ctx, info.traceparent, ended = a.options.Trace(r)
		if info.traceparent != "" {
			return ctx, ended
		}
	}
	info.traceparent = parseTraceparent(r.Header["Traceparent"])
	return r.Context(), func(string, string, int) {}
}

// flowOf is the id of the one flow that a request was about: the one that its path names, that it has made, or whose
// callback it was.
func (r *request) flowOf(route string, of *http.Request, answer http.Header) string {
	id := ""
	switch {
	case r.flow != uuid.Nil:
		return r.flow.String()
	case strings.HasPrefix(route, "/flows/{id}"):
		id = chi.URLParam(of, "id")
	case route == "/flows":
		id = strings.TrimPrefix(answer.Get("Location"), "/flows/")
	}
	if _, err := parseID(id); err != nil { // whatever a client wrote
		return ""
	}
	return id
}

// parseTraceparent reads a W3C traceparent header, and returns it as version 00 writes it. What is not one is no reason to
// refuse a request: it is "", as where there is none.
func parseTraceparent(sent []string) string {
	const length = len("00-00000000000000000000000000000000-0000000000000000-00")
	if len(sent) != 1 || len(sent[0]) < length {
		return ""
	}
	version, rest := sent[0][:2], sent[0][2:length]
	switch {
	case !isHex(version) || version == "ff", version == "00" && len(sent[0]) > length,
		len(sent[0]) > length && sent[0][length] != '-', // a later version may go on after these parts
		rest[0] != '-' || rest[33] != '-' || rest[50] != '-',
		!isHex(rest[1:33]) || !isHex(rest[34:50]) || !isHex(rest[51:]),
		strings.Trim(rest[1:33], "0") == "", strings.Trim(rest[34:50], "0") == "":
		return ""
	}
	return "00" + rest
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// traceID is the trace's id for the log; nothing where the request stands in none.
func (r *request) traceID() slog.Attr {
	if r == nil || r.traceparent == "" {
		return slog.Attr{} // which a log leaves out
	}
	return slog.String("trace_id", r.traceparent[3:35])
}

// outcomeOf is what an observer is told of a command's end.
func outcomeOf(replay []byte, err error) string {
	switch {
	case err != nil:
		return string(problemOf(err).slug)
	case replay != nil:
		return "replayed"
	}
	return "ok"
}

// commandName is an action as its route names it.
func commandName(action flows.Action) string {
	switch action.(type) {
	case flows.Create:
		return "create"
	case flows.Start:
		return "start"
	case flows.SetWait:
		return "wait"
	case flows.Resume:
		return "resume"
	case flows.Finish:
		return "finish"
	case flows.Fail:
		return "fail"
	case flows.RequestCancel:
		return "request-cancel"
	case flows.Cancel:
		return "cancel"
	case flows.UpdateState:
		return "state"
	case flows.ObserveStep:
		return "step"
	case flows.EndByCallback:
		return "callback"
	case flows.Erase:
		return "delete"
	}
	return "other"
}
