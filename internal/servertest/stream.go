package servertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Stream is an open live stream of server-sent events. It is for one goroutine. It repeats nothing by itself.
type Stream struct {
	Header http.Header
	body   io.ReadCloser
	lines  *bufio.Reader
	last   string
}

// Message is one block of a stream, with what its fields hold; several lines of data are joined by newlines.
type Message struct{ ID, Event, Data, Retry, Comment string }

// Stream opens a live stream; header are names and values in turn. It ends with ctx, and should be closed. An answer that
// is no stream is a StatusError.
func (c *Client) Stream(ctx context.Context, path string, header ...string) (*Stream, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/event-stream")
	c.identify(request)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := (&http.Client{Transport: c.http.Transport}).Do(request) // without a timeout for the whole
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4000))
		return nil, &StatusError{Answer{response.StatusCode, response.Header, text}}
	}
	return &Stream{Header: response.Header, body: response.Body, lines: bufio.NewReader(response.Body)}, nil
}

// StatusError is an answer that is no stream.
type StatusError struct{ Answer Answer }

func (e *StatusError) Error() string {
	return fmt.Sprintf("no stream but status %d: %s", e.Answer.Status, e.Answer.Body)
}

// Close ends the stream.
func (s *Stream) Close() { _ = s.body.Close() }

// Last is what to send in Last-Event-ID to go on from here; "" where no id has come yet.
func (s *Stream) Last() string { return s.last }

// Next reads one block. io.EOF is the stream's clean end.
func (s *Stream) Next() (Message, error) {
	var m Message
	for begun := false; ; begun = true {
		line, err := s.lines.ReadString('\n')
		if err == io.EOF && (begun || line != "") {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return m, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" && begun {
			if m.ID != "" {
				s.last = m.ID
			}
			return m, nil
		}
		m.read(line)
	}
}

func (m *Message) read(line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		m.ID = value
	case "event":
		m.Event = value
	case "data":
		if m.Data != "" {
			m.Data += "\n"
		}
		m.Data += value
	case "retry":
		m.Retry = value
	case "":
		m.Comment = ":" + value
	}
}

// ErrGoesOn: the stream had not ended.
var ErrGoesOn = errors.New("the stream goes on")

// AwaitEnd reads on until the stream ends, which is no error, while busy is called again and again. It gives up after
// limit, and closes the stream.
func (s *Stream) AwaitEnd(limit time.Duration, busy func()) error {
	ended := make(chan struct{})
	go func() { // ends with the stream, at the latest when it is closed below
		defer close(ended)
		for {
			if _, err := s.Next(); err != nil {
				return
			}
		}
	}()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-deadline.C:
			s.Close()
			<-ended
			return fmt.Errorf("%w after %v", ErrGoesOn, limit)
		case <-tick.C:
			busy()
		}
	}
}

// ErrOddEvent: the fields of an event in a stream do not fit together.
var ErrOddEvent = errors.New("an odd event")

// NextEvent reads on to the next audit event.
func (s *Stream) NextEvent() (Event, error) {
	for {
		m, err := s.Next()
		if err != nil {
			return Event{}, err
		}
		if m.Data == "" {
			continue
		}
		var e Event
		if err := json.Unmarshal([]byte(m.Data), &e); err != nil {
			return e, fmt.Errorf("%w: %.500q: %w", ErrOddEvent, m.Data, err)
		}
		if m.ID != fmt.Sprint(e.Seq) || m.Event != e.Kind {
			return e, fmt.Errorf("%w: id %q, event %q, data %.500s", ErrOddEvent, m.ID, m.Event, m.Data)
		}
		return e, nil
	}
}
