package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/servertest"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// receiver takes spans by OTLP.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	URL      string
	mu       sync.Mutex
	spans    []*traces.Span
	services []string
}

// newReceiver takes them over HTTP.
func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || request.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		r.take(&sent)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// newReceiverOverGRPC takes them over gRPC.
func newReceiverOverGRPC(t *testing.T) *receiver {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{URL: "http://" + listener.Addr().String()}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// Export is the call of OTLP over gRPC.
func (r *receiver) Export(_ context.Context, sent *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.take(sent)
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) take(sent *collector.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range sent.GetResourceSpans() {
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				r.services = append(r.services, a.GetValue().GetStringValue())
			}
		}
		for _, scope := range of.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
}

// find is the first span that matches, nil where none does.
func (r *receiver) find(match func(*traces.Span) bool) *traces.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.spans, match); i >= 0 {
		return r.spans[i]
	}
	return nil
}

// trail reads the traceparents of a flow's trail, by kind.
func trailOf(t *testing.T, s *servertest.Server, flow string) map[string]string {
	t.Helper()
	var page struct {
		Items []struct{ Kind, Traceparent string }
	}
	if err := json.Unmarshal(s.Call(t, 200, "GET", "/flows/"+flow+"/events", "").Body, &page); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range page.Items {
		all[e.Kind] = e.Traceparent
	}
	return all
}

const callersTrace, callersSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

// TestTraces_FromRequestToCommit holds that a request's span is below the caller's, the commit's is linked to it, the
// database's round trips are below the commit's, and the trail and the log say which trace it was.
func TestTraces_FromRequestToCommit(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, database string, _ int) {
		r := newReceiver(t)
		s := servertest.Start(t, servertest.Options{Database: database, Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL, "TASKFLOW_LOG_LEVEL=debug"}})
		flow := s.Create(t).ID
		s.Call(t, 200, "POST", "/flows/"+flow+"/start", "", "Traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
		s.Call(t, 200, "POST", "/flows/"+flow+"/state", `{"patch": {}}`, "Traceparent", "00-bad")
		s.Call(t, 409, "POST", "/flows/"+flow+"/start", "")
		s.Call(t, 200, "GET", "/flows/"+flow, "")
		trail := trailOf(t, s, flow)
		if code, _ := s.Stop(); code != 0 { // which sends what is left
			t.Errorf("exit %d", code)
		}
		request := r.find(func(span *traces.Span) bool { return span.GetName() == "POST /flows/{id}/start" })
		if request == nil {
			t.Fatalf("no span of the request among %v", r.spans)
		}
		if trace, parent := hex.EncodeToString(request.GetTraceId()), hex.EncodeToString(request.GetParentSpanId()); trace != callersTrace || parent != callersSpan {
			t.Errorf("the request's span is in trace %s below %s", trace, parent)
		}
		if want := "00-" + callersTrace + "-" + hex.EncodeToString(request.GetSpanId()) + "-01"; trail["started"] != want {
			t.Errorf("the event has traceparent %q, want %q", trail["started"], want)
		}
		if got := trail["state_updated"]; len(got) != 55 || strings.Contains(got, callersTrace) {
			t.Errorf("with a bad traceparent the event has %q, want a trace of the server's own", got)
		}
		commit := r.find(func(span *traces.Span) bool {
			return span.GetName() == "commit changes" && slices.ContainsFunc(span.GetLinks(), func(l *traces.Span_Link) bool {
				return slices.Equal(l.GetSpanId(), request.GetSpanId()) && slices.Equal(l.GetTraceId(), request.GetTraceId())
			})
		})
		if commit == nil {
			t.Fatalf("no commit is linked to the request")
		}
		below := func(parent *traces.Span, name string) *traces.Span {
			return r.find(func(span *traces.Span) bool {
				return span.GetName() == name && slices.Equal(span.GetParentSpanId(), parent.GetSpanId())
			})
		}
		if below(commit, "commit") == nil || below(commit, "load") == nil && below(commit, "begin") == nil {
			t.Error("the round trips to the database are not below the commit")
		}
		if read := r.find(func(span *traces.Span) bool { return span.GetName() == "GET /flows/{id}" }); read == nil || below(read, "read") == nil {
			t.Error("the read is not below its request")
		}
		checkSpans(t, r, flow, map[string]int{"POST /flows": 1, "POST /flows/{id}/start": 2, "POST /flows/{id}/state": 1,
			"GET /flows/{id}": 1, "GET /flows/{id}/events": 1})
		if !strings.Contains(s.Log(), `"trace_id":"`+callersTrace+`"`) { // whole, once the server has stopped
			t.Error("the log does not name the trace")
		}
	})
}

// TestTraces_OverGRPC holds that spans leave by the other protocol as well, before the end and at it.
func TestTraces_OverGRPC(t *testing.T) {
	t.Parallel()
	r := newReceiverOverGRPC(t)
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_BSP_SCHEDULE_DELAY=50"}})
	flow := s.Create(t).ID
	sent := func(name string) *traces.Span {
		return r.find(func(span *traces.Span) bool { return span.GetName() == name })
	}
	if err := servertest.Await(t.Context(), time.Minute, func() bool { return sent("POST /flows") != nil }); err != nil {
		t.Fatal("a running server has sent no span")
	}
	s.Call(t, 200, "POST", "/flows/"+flow+"/start", "", "Traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
	if code, _ := s.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	request := sent("POST /flows/{id}/start")
	if request == nil {
		t.Fatalf("no span of the request among %v", r.spans)
	}
	if trace, parent := hex.EncodeToString(request.GetTraceId()), hex.EncodeToString(request.GetParentSpanId()); trace != callersTrace || parent != callersSpan {
		t.Errorf("the request's span is in trace %s below %s", trace, parent)
	}
	checkSpans(t, r, flow, map[string]int{"POST /flows": 1, "POST /flows/{id}/start": 1})
}

// flowOf is the attribute of a span that names its flow, "" where it has none.
func flowOf(span *traces.Span) string {
	for _, a := range span.GetAttributes() {
		if a.GetKey() == "taskflow.flow.id" {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// checkSpans holds that each request about the flow, and nothing else, names it by the attribute, as often as is wanted of
// each span, and that probes have no span.
func checkSpans(t *testing.T, r *receiver, flow string, want map[string]int) {
	t.Helper()
	named := map[string]int{}
	for _, span := range r.spans {
		if id := flowOf(span); id == flow {
			named[span.GetName()]++
		} else if id != "" || strings.Contains(span.String(), flow) {
			t.Errorf("a span names flow %q, or has the id elsewhere: %s", id, span)
		}
		if strings.Contains(span.GetName(), "readyz") {
			t.Errorf("a probe has a span: %s", span)
		}
	}
	if !maps.Equal(named, want) {
		t.Errorf("the spans that name the flow are %v, want %v", named, want)
	}
	if len(r.services) == 0 || r.services[0] != "taskflow" {
		t.Errorf("the spans are of services %q", r.services)
	}
}

// TestTraces_WithoutACollector holds that one that cannot be reached costs no change and no clean end, and that without
// an endpoint the caller's traceparent is kept all the same.
func TestTraces_WithoutACollector(t *testing.T) {
	t.Parallel()
	database := servertest.SQLite(t)
	s := servertest.Start(t, servertest.Options{Database: database, Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + servertest.FreeAddress(t)}})
	s.Create(t)
	if code, took := s.Stop(); code != 0 || took.Seconds() > 10 {
		t.Errorf("exit %d after %v", code, took)
	}
	s = servertest.Start(t, servertest.Options{Database: database})
	flow, sent := s.Create(t).ID, "00-"+callersTrace+"-"+callersSpan+"-00"
	s.Call(t, 200, "POST", "/flows/"+flow+"/start", "", "Traceparent", sent)
	if trail := trailOf(t, s, flow); trail["created"] != "" || trail["started"] != sent {
		t.Errorf("the trail has traceparents %q", trail)
	}
}

// TestTraces_BadEndpoint holds that a bad value is an error at start that names it, and does not repeat it.
func TestTraces_BadEndpoint(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT=secret@collector", "OTEL_EXPORTER_OTLP_PROTOCOL=carrier-pigeon", "TASKFLOW_METRICS_LISTEN=9090"} {
		name, value, _ := strings.Cut(variable, "=")
		r := servertest.Run(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{variable}})
		if r.Code != 1 || !strings.Contains(r.Stderr, name) || strings.Contains(r.Stderr, "secret") {
			t.Errorf("%s: exit %d, %s", value, r.Code, r.Stderr)
		}
	}
}
