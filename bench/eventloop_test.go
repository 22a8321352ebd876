package main

import (
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
	"time"
)

// get is one turn that asks for a path and wants a body.
func (w *worker) get(ctx context.Context, path string, want []byte) error {
	body, ok, err := w.call(ctx, request{method: "GET", path: path}, http.StatusOK)
	if ok && !bytes.Equal(body, want) {
		return fmt.Errorf("%s: %d bytes, want %d: %.50q", path, len(body), len(want), body)
	}
	return err
}

// runTurns runs n workers, each for so many turns of one kind, and returns the sum of their counts.
func runTurns(ctx context.Context, addr string, n, turns int, deadline time.Time,
	turn func(context.Context, *worker) error) (*tally, error) {
	workers := make([]*worker, n)
	for i := range workers {
		workers[i] = &worker{conn: newHTTPConn(addr, deadline), window: window{until: time.Now().Add(time.Hour)}, tally: newTally()}
	}
	err := runWorkers(ctx, workers, scenario{turn: func(ctx context.Context, w *worker) error {
		err := turn(ctx, w)
		if w.serial++; w.serial == turns {
			w.window.until = time.Time{} // its last turn
		}
		return err
	}}, deadline)
	total := newTally()
	for _, w := range workers {
		total.add(w.tally)
	}
	return total, err
}

// minute is a deadline that no test reaches.
func minute() time.Time { return time.Now().Add(time.Minute) }

func TestWorkersKeepTheirConnections(t *testing.T) {
	const workers, turns = 30, 6
	bodies := [][]byte{[]byte("small"), bytes.Repeat([]byte("in chunks "), 100_000), bytes.Repeat([]byte("x"), 1<<20)}
	addr, connections := countConnections(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := bodies[r.URL.Path[1]-'0']
		if len(body) == 1<<20 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		w.Write(body)
	}))
	total, err := runTurns(t.Context(), addr, workers, turns, minute(), func(ctx context.Context, w *worker) error {
		kind := w.serial % len(bodies)
		return w.get(ctx, fmt.Sprint("/", kind), bodies[kind])
	})
	if err != nil {
		t.Fatal(err)
	}
	if total.transport != 0 || total.failures != 0 || total.requests != workers*turns {
		t.Errorf("%d answers, want %d; %d failed, %d broken", total.requests, workers*turns, total.failures, total.transport)
	}
	if n := connections.Load(); n != workers {
		t.Errorf("%d connections, want %d", n, workers)
	}
}

// A request larger than what the sockets hold has to wait for its reader.
func TestWorkersWriteToASlowReader(t *testing.T) {
	const workers, turns, size = 4, 2, 8 << 20
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 1<<10))
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, n)
	}))
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if err := conn.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
			t.Error(err)
		}
		return ctx
	}
	server.Start()
	defer server.Close()
	addr, body := server.Listener.Addr().String(), bytes.Repeat([]byte("x"), size)
	total, err := runTurns(t.Context(), addr, workers, turns, minute(), func(ctx context.Context, w *worker) error {
		answer, ok, err := w.call(ctx, request{method: "POST", path: "/", body: body}, http.StatusOK)
		if ok && string(answer) != fmt.Sprint(size) {
			return fmt.Errorf("%s bytes came, want %d", answer, size)
		}
		return err
	})
	if err != nil || total.requests != workers*turns || total.transport != 0 {
		t.Errorf("%d answers, want %d; %d broken; error %v", total.requests, workers*turns, total.transport, err)
	}
}

func TestWorkersDialAnewAfterClose(t *testing.T) {
	const workers, turns = 3, 6
	endings := map[string]func(http.ResponseWriter){
		"announced": func(w http.ResponseWriter) { w.Header().Set("Connection", "close") },
		// The next request finds it closed, or is cut off.
		"unannounced": func(w http.ResponseWriter) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbye")
			conn.Close()
		},
		"within an answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "bye")
		},
	}
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			addr, connections := countConnections(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if end(w); name == "announced" {
					io.WriteString(w, "bye")
				}
			}))
			total, err := runTurns(t.Context(), addr, workers, turns, minute(), func(ctx context.Context, w *worker) error {
				return w.get(ctx, "/", []byte("bye"))
			})
			if err != nil {
				t.Fatal(err)
			}
			if total.requests+total.transport != workers*turns || connections.Load() < workers*turns/2 {
				t.Errorf("%d answers, %d broken, over %d connections", total.requests, total.transport, connections.Load())
			}
			if name == "announced" && total.transport > 0 || name == "within an answer" && total.requests > 0 {
				t.Errorf("%d answers, %d broken", total.requests, total.transport)
			}
		})
	}
}

// silentServer tells of each request that came, and never answers.
func silentServer(t *testing.T) (addr string, came chan struct{}) {
	t.Helper()
	came = make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-r.Context().Done() // the client left
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), came
}

func TestWorkersEndAtTheirDeadline(t *testing.T) {
	for name, body := range map[string][]byte{"reading": nil, "writing": make([]byte, 16<<20)} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0") // whose connections nobody accepts
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			total, err := runTurns(t.Context(), listener.Addr().String(), 5, 1, time.Now().Add(50*time.Millisecond),
				func(ctx context.Context, w *worker) error {
					_, _, err := w.call(ctx, request{method: "POST", path: "/", body: body}, http.StatusOK)
					return err
				})
			if err != nil || total.transport != 5 {
				t.Errorf("%d broken, want 5; error %v", total.transport, err)
			}
		})
	}
}

func TestWorkersEndWithTheirContext(t *testing.T) {
	const workers = 5
	addr, came := silentServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for range workers {
			<-came
		}
		cancel()
	}()
	_, err := runTurns(ctx, addr, workers, 1, time.Now().Add(time.Hour), func(ctx context.Context, w *worker) error {
		return w.get(ctx, "/", nil)
	})
	if err == nil {
		t.Error("a run that was broken off has no error")
	}
}

func TestWorkersEndWithTheFirstError(t *testing.T) {
	addr, _ := silentServer(t)
	broken, turns := errors.New("broken"), atomic.Int64{}
	_, err := runTurns(t.Context(), addr, 5, 1, time.Now().Add(time.Hour), func(ctx context.Context, w *worker) error {
		if turns.Add(1) == 5 {
			return broken
		}
		return w.get(ctx, "/", nil)
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the one that a worker returned", err)
	}
}
