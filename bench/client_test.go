package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

func TestReadResponse(t *testing.T) {
	cases := []struct {
		name, text string
		status     int
		body       string
		closes     bool
		err        error
	}{
		{name: "content length", text: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", status: 200, body: "hello"},
		{name: "name in any case", text: "HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello", status: 200, body: "hello"},
		{name: "empty body", text: "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", status: 201},
		{name: "no reason phrase", text: "HTTP/1.1 409\r\nContent-Length: 1\r\n\r\nx", status: 409, body: "x"},
		{name: "error status", text: "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nno", status: 503, body: "no"},
		{name: "no content", text: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{name: "not modified", text: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304},
		{name: "interim answer first", text: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", status: 200, body: "x"},
		{name: "close", text: "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx", status: 200, body: "x", closes: true},
		{name: "chunks", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n, chunked!\r\n0\r\n\r\n", status: 200, body: "hello, chunked!"},
		{name: "chunks with a trailer", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: y\r\n\r\n", status: 200, body: "x"},
		{name: "equal lengths twice", text: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", status: 200, body: "x"},

		{name: "different lengths", text: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", err: errMalformed},
		{name: "negative length", text: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", err: errMalformed},
		{name: "no length at all", text: "HTTP/1.1 200 OK\r\n\r\nhello", err: errMalformed},
		{name: "unknown encoding", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", err: errMalformed},
		{name: "chunk size that is none", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", err: errMalformed},
		{name: "chunk longer than its size", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n", err: errMalformed},
		{name: "not HTTP/1.1", text: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", err: errMalformed},
		{name: "status that is none", text: "HTTP/1.1 2x0 OK\r\n\r\n", err: errMalformed},
		{name: "header without a colon", text: "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", err: errMalformed},
		{name: "endless header line", text: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n", err: errMalformed},
		{name: "body over the limit", text: "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", err: errTooLarge},
		{name: "cut body", text: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", err: io.ErrUnexpectedEOF},
		{name: "cut header", text: "HTTP/1.1 200 OK\r\nContent-Le", err: io.ErrUnexpectedEOF},
		{name: "cut chunks", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", err: io.ErrUnexpectedEOF},
		{name: "nothing", text: "", err: io.ErrUnexpectedEOF},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, source := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text))} {
				reader := bufio.NewReaderSize(source, 4096)
				got, err := readResponse(reader, nil)
				if !errors.Is(err, c.err) {
					t.Fatalf("error %v, want %v", err, c.err)
				}
				if c.err != nil {
					continue
				}
				if got.status != c.status || string(got.body) != c.body || got.closes != c.closes {
					t.Errorf("got %d %q closes=%t", got.status, got.body, got.closes)
				}
				if c.status != 304 && reader.Buffered() != 0 {
					t.Errorf("%d bytes of the answer left unread", reader.Buffered())
				}
			}
		})
	}
}

func TestReadResponseLeavesTheNextOne(t *testing.T) {
	text := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst" +
		"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n0\r\n\r\n" +
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthird"
	reader := bufio.NewReader(strings.NewReader(text))
	var body []byte
	for _, want := range []string{"200 first", "404 second", "200 third"} {
		answer, err := readResponse(reader, body[:0])
		if err != nil {
			t.Fatal(err)
		}
		body = answer.body
		if got := fmt.Sprintf("%d %s", answer.status, answer.body); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// countConnections starts a server that counts the connections made to it.
func countConnections(t *testing.T, handler http.Handler) (addr string, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), connections
}

func TestHTTPConnKeepsItsConnection(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 100_000) // net/http sends it in chunks
	addr, connections := countConnections(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/large":
			w.Write(large)
		case "/error":
			http.Error(w, "broken", http.StatusInternalServerError)
		default:
			fmt.Fprintf(w, "%s %s key=%s type=%s length=%d %s", r.Method, r.URL.Path,
				r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"), r.ContentLength, body)
		}
	}))
	conn := newHTTPConn(addr, time.Now().Add(time.Minute))
	defer conn.close()
	cases := []struct {
		request request
		want    string
	}{
		{request{method: "POST", path: "/a", key: "k-1", body: []byte("{}")}, "200 POST /a key=k-1 type=application/json length=2 {}"},
		{request{method: "GET", path: "/large"}, "200 " + string(large)},
		{request{method: "POST", path: "/b"}, "200 POST /b key= type= length=0 "},
		{request{method: "GET", path: "/error"}, "500 broken\n"},
		{request{method: "GET", path: "/c"}, "200 GET /c key= type= length=0 "},
	}
	for _, c := range cases {
		answer, err := conn.do(t.Context(), c.request)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s", answer.status, answer.body); got != c.want {
			t.Errorf("%s: got %.200q, want %.200q", c.request.path, got, c.want)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for %d requests, want 1", n, len(cases))
	}
}

func TestHTTPConnDialsAnewAfterClose(t *testing.T) {
	addr, connections := countConnections(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		fmt.Fprint(w, "bye")
	}))
	conn := newHTTPConn(addr, time.Now().Add(time.Minute))
	defer conn.close()
	for range 3 {
		answer, err := conn.do(t.Context(), request{method: "GET", path: "/"})
		if err != nil || string(answer.body) != "bye" {
			t.Fatalf("got %q, %v", answer.body, err)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

func TestHTTPConnEndsWithItsContext(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	addr, _ := countConnections(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-leave
	}))
	defer close(leave)
	ctx, cancel := context.WithCancel(t.Context())
	conn := newHTTPConn(addr, time.Now().Add(time.Hour))
	defer conn.close()
	failed := make(chan error)
	go func() {
		_, err := conn.do(ctx, request{method: "GET", path: "/"})
		failed <- err
	}()
	<-arrived
	cancel()
	if err := <-failed; err == nil {
		t.Error("a request outlived its context")
	}
}

// BenchmarkClient and BenchmarkTransport compare what a request costs the generator, against the same server.
func BenchmarkClient(b *testing.B) {
	addr := benchmarkServer(b)
	conn := newHTTPConn(addr, time.Time{})
	defer conn.close()
	body := appendStateBody(nil, 1)
	before := cpuTime()
	for b.Loop() {
		if _, err := conn.do(b.Context(), request{method: "POST", path: "/flows/x/state", body: body}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func BenchmarkTransport(b *testing.B) {
	addr := benchmarkServer(b)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	body := appendStateBody(nil, 1)
	before := cpuTime()
	for b.Loop() {
		answer, err := client.Post("http://"+addr+"/flows/x/state", "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// benchmarkServer answers every request with the same bytes, at next to no cost: it reads what comes and counts on
// each request's arriving whole.
func benchmarkServer(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	body := strings.Repeat("x", 600)
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"3\"\r\nContent-Length: 600\r\n\r\n" + body)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 4096)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}()
	b.Cleanup(func() {
		listener.Close()
		<-done
	})
	return listener.Addr().String()
}
