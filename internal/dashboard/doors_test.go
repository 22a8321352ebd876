package dashboard_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// doors stand between the page and a server, and let a test refuse what it likes, or cut connections.
type doors struct {
	*httptest.Server

	mu      sync.Mutex
	refuse  func(r *http.Request) *refusal
	spoil   func(answer *http.Response)
	streams map[*http.Request]context.CancelFunc
}

// refusal is a problem that doors answer instead of the server.
type refusal struct {
	status     int
	slug       string
	detail     string
	retryAfter string
}

func newDoors(t *testing.T, server string) *doors {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1 // streams pass at once
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }
	d := &doors{streams: map[*http.Request]context.CancelFunc{}}
	proxy.ModifyResponse = d.modify
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, proxy) }))
	t.Cleanup(func() { d.cut(); d.Server.CloseClientConnections(); d.Server.Close() })
	return d
}

func (d *doors) serve(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
	d.mu.Lock()
	refuse := d.refuse
	d.mu.Unlock()
	if refuse != nil && isAPI(r) {
		if no := refuse(r); no != nil {
			no.write(w)
			return
		}
	}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		ctx, cut := context.WithCancel(r.Context()) // the proxy aborts its answer when the context ends
		r = r.WithContext(ctx)
		d.mu.Lock()
		d.streams[r] = cut
		d.mu.Unlock()
		defer func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.streams, r)
			cut()
		}()
	}
	proxy.ServeHTTP(w, r)
}

func (no *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Request-Id", "request-of-the-test")
	if no.retryAfter != "" {
		w.Header().Set("Retry-After", no.retryAfter)
	}
	w.WriteHeader(no.status)
	fmt.Fprintf(w, `{"type": "/problems/%s", "title": "Refused by the test", "status": %d, "detail": %q, "instance": "request-of-the-test"}`, no.slug, no.status, no.detail)
}

// refuseBy sets who is refused; nil lets everybody in.
func (d *doors) refuseBy(refuse func(r *http.Request) *refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = refuse
}

// spoilBy sets what becomes of the server's answers to requests of the API; nil leaves them whole.
func (d *doors) spoilBy(spoil func(answer *http.Response)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spoil = spoil
}

func (d *doors) modify(answer *http.Response) error {
	d.mu.Lock()
	spoil := d.spoil
	d.mu.Unlock()
	if spoil != nil && isAPI(answer.Request) {
		spoil(answer)
	}
	return nil
}

// isAPI tells the API's requests from those for the page's files.
func isAPI(r *http.Request) bool {
	return r.URL.Path != "/" && !strings.HasPrefix(r.URL.Path, "/dashboard/")
}

// cut breaks every live stream in the middle, and reports how many there were.
func (d *doors) cut() int {
	d.mu.Lock()
	cuts := d.streams
	d.streams = map[*http.Request]context.CancelFunc{}
	d.mu.Unlock()
	for _, cut := range cuts {
		cut()
	}
	return len(cuts)
}

// open counts the live streams.
func (d *doors) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.streams)
}
