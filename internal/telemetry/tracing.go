package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// Tracing makes spans and sends them by OTLP. Its methods are what the hooks of the packages httpapi, engine, pg and
// sqlite ask for. No span holds a path, a body or a key: a path may be a capability. The id of a flow is none.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTracing sets tracing up, to endpoint or where the standard variables (OTEL_…) say; it returns nil where neither says
// anything: then nothing is traced. A collector that cannot be reached is no error; the log has a word of it.
func NewTracing(ctx context.Context, endpoint, version string, log *slog.Logger) (*Tracing, error) {
	if !exporting(endpoint) {
		return nil, nil
	}
	exporter, err := newExporter(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("setting up traces: %w", err)
	}
	about, err := describe(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("setting up traces: %w", err)
	}
	otel.SetErrorHandler(&grumbler{log: log}) // the library has no other way to say that sending fails
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &Tracing{provider: provider, tracer: provider.Tracer("taskflow")}, nil
}

// Shutdown sends what has yet to be sent, until ctx ends. There may be no tracing to shut down.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last traces: %w", err)
	}
	return nil
}

// Request begins the span of a request, as a child of the caller's where its traceparent is a good one. What is asked again
// and again by machines has none.
func (t *Tracing) Request(r *http.Request) (context.Context, string, func(route, flow string, status int)) {
	switch r.URL.Path {
	case "/livez", "/readyz", "/metrics":
		return r.Context(), "", nil
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(r.Method)))
	return ctx, traceparent(span.SpanContext()), func(route, flow string, status int) {
		span.SetName(r.Method + " " + route)
		span.SetAttributes(semconv.HTTPRoute(route), semconv.HTTPResponseStatusCode(status))
		if flow != "" {
			span.SetAttributes(attribute.String("taskflow.flow.id", flow))
		}
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Batch begins the span of a transaction. It serves many requests, so it is a trace of its own, with a link to the span of
// each; where none of them is sampled, there is no span. Timers have no request, and are sampled like one.
func (t *Tracing) Batch(ctx context.Context, work string, requests []string) (context.Context, func(error)) {
	links := make([]trace.Link, 0, len(requests))
	for _, request := range requests {
		if c := parse(request); c.IsSampled() {
			links = append(links, trace.Link{SpanContext: c})
		}
	}
	if len(requests) > 0 && len(links) == 0 {
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, "commit "+work, trace.WithLinks(links...), trace.WithNewRoot(),
		trace.WithAttributes(attribute.Int("taskflow.requests", len(requests))))
	return ctx, func(err error) { end(span, err) }
}

// RoundTrip makes the hook that begins the span of a call to a database of this system (postgresql, sqlite). Only what
// belongs to a span that is recorded has one.
func (t *Tracing) RoundTrip(system string) func(ctx context.Context, operation string) func(error) {
	about := trace.WithAttributes(semconv.DBSystemNameKey.String(system))
	client := trace.WithSpanKind(trace.SpanKindClient)
	return func(ctx context.Context, operation string) func(error) {
		if !trace.SpanFromContext(ctx).IsRecording() {
			return func(error) {}
		}
		_, span := t.tracer.Start(ctx, operation, about, client)
		return func(err error) { end(span, err) }
	}
}

// end ends a span. What was wrong is in the log, and may hold what a trace must not.
func end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// traceparent writes a span's context as W3C Trace Context, version 00.
func traceparent(c trace.SpanContext) string {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + (c.TraceFlags() & trace.FlagsSampled).String()
}

// parse reads what traceparent wrote.
func parse(traceparent string) trace.SpanContext {
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// grumbler logs that traces cannot be sent, once a minute at most.
type grumbler struct {
	log  *slog.Logger
	next atomic.Int64 // in Unix nanoseconds
}

// Handle implements otel.ErrorHandler.
func (g *grumbler) Handle(err error) {
	now := time.Now()
	next := g.next.Load()
	if now.UnixNano() < next || !g.next.CompareAndSwap(next, now.Add(time.Minute).UnixNano()) {
		return
	}
	g.log.Warn("trouble with sending traces", "error", err)
}
