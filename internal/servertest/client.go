package servertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Client sends requests to one server. It repeats nothing by itself: an answer that did not come is the test's to judge.
// It is safe for concurrent use.
type Client struct {
	URL  string // http://host:port
	http *http.Client
}

// clientTimeout is longer than any request may take.
const clientTimeout = 60 * time.Second

// NewClient makes a client for the server at a URL.
func NewClient(t testing.TB, url string) *Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &Client{URL: url, http: &http.Client{Transport: transport, Timeout: clientTimeout}}
}

// NewClientOver makes a client whose requests go over the caller's transport.
func NewClientOver(transport http.RoundTripper, url string) *Client {
	return &Client{URL: url, http: &http.Client{Transport: transport, Timeout: clientTimeout}}
}

// Answer is a whole answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// ErrHalfAnswer: the connection broke in the middle of an answer.
var ErrHalfAnswer = errors.New("half an answer")

// Send sends one request; header are names and values in turn. An error means that no whole answer came: none at all, but
// where it is ErrHalfAnswer.
func (c *Client) Send(method, path, body string, header ...string) (Answer, error) {
	// net/http repeats a request that has an Idempotency-Key, if it has no body or one that can be read again. The reader's
	// type hides that it can, and the key is hidden below.
	request, err := http.NewRequest(method, c.URL+path, struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		return Answer{}, err
	}
	request.ContentLength = int64(len(body))
	if body == "" {
		request.Body = http.NoBody
	} else {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Idempotency-Key" {
			request.Header["idempotency-key"] = []string{header[i+1]} // unseen by net/http, which sends it all the same
			continue
		}
		request.Header.Set(header[i], header[i+1])
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrHalfAnswer, err)
	}
	return Answer{response.StatusCode, response.Header, text}, nil
}

// Call is Send for a request that must be answered with the given status.
func (c *Client) Call(t testing.TB, status int, method, path, body string, header ...string) Answer {
	t.Helper()
	answer, err := c.Send(method, path, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if answer.Status != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, answer.Status, status, answer.Body)
	}
	return answer
}

// Decode reads the body as JSON; numbers in an any keep their digits.
func (a Answer) Decode(v any) error {
	decoder := json.NewDecoder(strings.NewReader(string(a.Body)))
	decoder.UseNumber()
	if err := decoder.Decode(v); err != nil {
		return fmt.Errorf("reading an answer: %w: %s", err, a.Body)
	}
	return nil
}

// Problem is the last part of a problem's type, like not-found; "" where the answer is no problem.
func (a Answer) Problem() string {
	var p struct{ Type string }
	if a.Header.Get("Content-Type") != "application/problem+json" || a.Decode(&p) != nil {
		return ""
	}
	return strings.TrimPrefix(p.Type, "/problems/")
}

// Flow is what tests look at in a flow.
type Flow struct {
	ID       string         `json:"id"`
	Status   string         `json:"status"`
	Revision int64          `json:"revision"`
	State    map[string]any `json:"state"`
}

// Event is what tests look at in an audit event.
type Event struct {
	Seq      int64           `json:"seq"`
	FlowID   string          `json:"flow_id"`
	Revision int64           `json:"revision"`
	Kind     string          `json:"kind"`
	Payload  json.RawMessage `json:"payload"`
	At       string          `json:"at"`
}

// Step is what tests look at in a step.
type Step struct {
	ID     string `json:"id"`
	FlowID string `json:"flow_id"`
	RunID  string `json:"run_id"`
	Status string `json:"status"`
}

// Create makes a flow for a test; extra are further members of the body, like `"id": "…"`.
func (c *Client) Create(t testing.TB, extra ...string) Flow {
	t.Helper()
	members := append([]string{`"controller_id": "test"`, `"goal": "a test"`, `"owner_session_key": "test"`}, extra...)
	var f Flow
	if err := c.Call(t, http.StatusCreated, http.MethodPost, "/flows", "{"+strings.Join(members, ", ")+"}").Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

// Flow reads one flow.
func (c *Client) Flow(t testing.TB, id string) Flow {
	t.Helper()
	var f Flow
	if err := c.Call(t, http.StatusOK, http.MethodGet, "/flows/"+id, "").Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

// All reads every page of a list. path has no query but what it brings along after a question mark.
func All[T any](c *Client, path string) ([]T, error) {
	join := "?"
	if strings.Contains(path, "?") {
		join = "&"
	}
	path += join + "limit=500"
	var all []T
	for cursor := ""; ; {
		answer, err := c.Send(http.MethodGet, path+cursor, "")
		if err != nil {
			return nil, err
		}
		if answer.Status != http.StatusOK {
			return nil, fmt.Errorf("GET %s: status %d: %s", path, answer.Status, answer.Body)
		}
		var page struct {
			Items      []T     `json:"items"`
			NextCursor *string `json:"next_cursor"`
		}
		if err := answer.Decode(&page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == nil {
			return all, nil
		}
		cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
	}
}
