package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/store/storetest"
)

// BenchmarkRequest is what the API's own code costs a request: no connection, and a store in memory that commits at once. 64
// callers keep the committer's batches full.
func BenchmarkRequest(b *testing.B) {
	c := build(b, storetest.NewMemory(time.Now), newSetup(nil))
	created := &discarded{header: http.Header{}}
	c.api.ServeHTTP(created, benchRequest(http.MethodPost, "/flows", createBody("")))
	flow := created.header.Get("Location")
	b.Run("get", func(b *testing.B) {
		benchmarkRequest(b, c, func(int64) *http.Request { return benchRequest(http.MethodGet, flow, "") })
	})
	b.Run("state", func(b *testing.B) {
		benchmarkRequest(b, c, func(n int64) *http.Request {
			return benchRequest(http.MethodPost, flow+"/state", fmt.Sprintf(`{"patch":{"progress":%d,"phase":"collect","note":"closed loop"}}`, n))
		})
	})
}

func benchmarkRequest(b *testing.B, c *client, make func(int64) *http.Request) {
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := &discarded{header: http.Header{}}
			if c.api.ServeHTTP(w, make(n.Add(1))); w.status != http.StatusOK {
				b.Errorf("answered %d", w.status)
				return
			}
		}
	})
}

func benchRequest(method, path, body string) *http.Request {
	return &http.Request{
		Method: method, URL: &url.URL{Path: path}, Host: "localhost", Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// discarded is an answer of which the status alone is kept.
type discarded struct {
	header http.Header
	status int
}

func (w *discarded) Header() http.Header            { return w.header }
func (w *discarded) WriteHeader(status int)         { w.status = status }
func (w *discarded) Write(body []byte) (int, error) { return len(body), nil }
