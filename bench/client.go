package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// This file is a minimal HTTP/1.1 client: one keep-alive connection, one request at a time, no goroutine and no
// allocation of its own per request. net/http's Transport runs two goroutines for each connection and hands every
// request through channels; the generator shares its cores with what it measures, so what it spends is taken from the
// figure.

var (
	errMalformed = errors.New("malformed response")
	errTooLarge  = errors.New("response body too large")
)

// maxResponseBody bounds what a broken server can make the generator hold, in bytes.
const maxResponseBody = 64 << 20

// response is one answer. Body is valid until the connection's next request.
type response struct {
	status int
	body   []byte
	closes bool // the server will close the connection after this answer
}

// httpConn is one keep-alive connection. It dials when it needs to, so it outlives connections that the server closes.
// Not safe for concurrent use.
type httpConn struct {
	addr   string // host:port
	open   func(ctx context.Context, addr string) (io.ReadWriteCloser, error)
	conn   io.ReadWriteCloser // nil until dialled
	reader *bufio.Reader
	out    []byte
	body   []byte
}

// newHTTPConn makes a connection whose requests block the goroutine. The deadline is that of everything on it; zero for
// none.
func newHTTPConn(addr string, deadline time.Time) *httpConn {
	return &httpConn{addr: addr, open: blockingDialer(deadline)}
}

// close ends the connection; the next request dials anew.
func (c *httpConn) close() {
	if c.conn == nil {
		return
	}
	c.conn.Close()
	c.conn = nil
}

// dial opens the connection if there is none.
func (c *httpConn) dial(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	conn, err := c.open(ctx, c.addr)
	if err != nil {
		return err
	}
	c.conn = conn
	if c.reader == nil {
		c.reader = bufio.NewReaderSize(conn, 16<<10)
	}
	c.reader.Reset(conn)
	return nil
}

// blockingConn is a net.Conn that ends with the context it was dialled with, and then fails a request under way at once.
type blockingConn struct {
	net.Conn
	release func() bool
}

func blockingDialer(deadline time.Time) func(ctx context.Context, addr string) (io.ReadWriteCloser, error) {
	return func(ctx context.Context, addr string) (io.ReadWriteCloser, error) {
		dialer := net.Dialer{Deadline: deadline}
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
		return blockingConn{conn, context.AfterFunc(ctx, func() { conn.Close() })}, nil
	}
}

func (c blockingConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// request is what is sent. Key is the Idempotency-Key and bearer the API key, none where empty; a nil body sends none.
type request struct {
	method string
	path   string
	key    string
	bearer string
	body   []byte
}

// do sends one request and reads the whole answer. After an error the connection is closed, and the outcome of the
// request is unknown.
func (c *httpConn) do(ctx context.Context, r request) (response, error) {
	if err := c.dial(ctx); err != nil {
		return response{}, err
	}
	c.out = appendRequest(c.out[:0], c.addr, r)
	if _, err := c.conn.Write(c.out); err != nil {
		c.close()
		return response{}, err
	}
	answer, err := readResponse(c.reader, c.body[:0])
	if err != nil {
		c.close()
		return response{}, err
	}
	c.body = answer.body
	if answer.closes {
		c.close()
	}
	return answer, nil
}

func appendRequest(out []byte, host string, r request) []byte {
	out = append(out, r.method...)
	out = append(out, ' ')
	out = append(out, r.path...)
	out = append(out, " HTTP/1.1\r\nHost: "...)
	out = append(out, host...)
	if r.key != "" {
		out = append(out, "\r\nIdempotency-Key: "...)
		out = append(out, r.key...)
	}
	if r.bearer != "" {
		out = append(out, "\r\nAuthorization: Bearer "...)
		out = append(out, r.bearer...)
	}
	if r.body != nil {
		out = append(out, "\r\nContent-Type: application/json"...)
	}
	if r.body != nil || r.method == "POST" {
		out = append(out, "\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(len(r.body)), 10)
	}
	out = append(out, "\r\n\r\n"...)
	return append(out, r.body...)
}

// readResponse reads one final response, appending its body to body. It knows Content-Length and chunked bodies; one
// that only ends with the connection is refused, since a cut one could not be told from a whole one.
func readResponse(r *bufio.Reader, body []byte) (response, error) {
	for {
		status, err := readStatusLine(r)
		if err != nil {
			return response{}, err
		}
		head, err := readHeader(r)
		if err != nil {
			return response{}, err
		}
		if status >= 200 {
			answer := response{status: status, closes: head.closes}
			answer.body, err = readBody(r, body, status, head)
			return answer, err
		}
	}
}

// readLine returns the next line without its end; it is valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: line over %d bytes", errMalformed, r.Size())
	}
	if err != nil {
		return nil, unexpectedEOF(err)
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

func readStatusLine(r *bufio.Reader) (int, error) {
	line, err := readLine(r)
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || string(line[:9]) != "HTTP/1.1 " || (len(line) > 12 && line[12] != ' ') {
		return 0, fmt.Errorf("%w: status line %q", errMalformed, line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 100 || status > 599 {
		return 0, fmt.Errorf("%w: status line %q", errMalformed, line)
	}
	return status, nil
}

// header is what the header fields say of the body and the connection.
type header struct {
	length  int // -1 where not given
	chunked bool
	closes  bool
}

func readHeader(r *bufio.Reader) (header, error) {
	head := header{length: -1}
	for {
		line, err := readLine(r)
		if err != nil {
			return head, err
		}
		if len(line) == 0 {
			return head, nil
		}
		if err := head.field(line); err != nil {
			return head, err
		}
	}
}

// field takes in one header line. The length of the name is looked at first: almost every field is skipped on it.
func (h *header) field(line []byte) error {
	colon := 0
	for colon < len(line) && line[colon] != ':' {
		colon++
	}
	if colon == 0 || colon == len(line) {
		return fmt.Errorf("%w: header %q", errMalformed, line)
	}
	name := line[:colon]
	switch {
	case len(name) == len("Content-Length") && strings.EqualFold(string(name), "Content-Length"):
		n, err := strconv.ParseUint(strings.TrimSpace(string(line[colon+1:])), 10, 31)
		if err != nil || (h.length >= 0 && h.length != int(n)) {
			return fmt.Errorf("%w: header %q", errMalformed, line)
		}
		h.length = int(n)
	case len(name) == len("Transfer-Encoding") && strings.EqualFold(string(name), "Transfer-Encoding"):
		if !strings.EqualFold(strings.TrimSpace(string(line[colon+1:])), "chunked") {
			return fmt.Errorf("%w: header %q", errMalformed, line)
		}
		h.chunked = true
	case len(name) == len("Connection") && strings.EqualFold(string(name), "Connection"):
		h.closes = strings.EqualFold(strings.TrimSpace(string(line[colon+1:])), "close")
	}
	return nil
}

func readBody(r *bufio.Reader, body []byte, status int, head header) ([]byte, error) {
	switch {
	case status == 204 || status == 304:
		return body, nil
	case head.chunked:
		return readChunks(r, body)
	case head.length >= 0:
		return readFull(r, body, head.length)
	}
	return body, fmt.Errorf("%w: neither Content-Length nor chunked", errMalformed)
}

func readFull(r *bufio.Reader, body []byte, n int) ([]byte, error) {
	if len(body)+n > maxResponseBody {
		return body, errTooLarge
	}
	from := len(body)
	if cap(body)-from < n {
		body = append(body, make([]byte, n)...)
	}
	body = body[:from+n]
	_, err := io.ReadFull(r, body[from:])
	return body, unexpectedEOF(err)
}

func readChunks(r *bufio.Reader, body []byte) ([]byte, error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return body, err
		}
		size, _, _ := strings.Cut(string(line), ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if err != nil {
			return body, fmt.Errorf("%w: chunk size %q", errMalformed, line)
		}
		if n == 0 {
			_, err := readHeader(r) // the trailer; an empty line where there is none
			return body, err
		}
		if body, err = readFull(r, body, int(n)); err != nil {
			return body, err
		}
		if line, err = readLine(r); err != nil {
			return body, err
		}
		if len(line) != 0 {
			return body, fmt.Errorf("%w: chunk longer than its size", errMalformed)
		}
	}
}

// unexpectedEOF makes an end within a response an error that nobody takes for its regular end.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
