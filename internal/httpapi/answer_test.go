package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// answer is what the server answered to one request.
type answer struct {
	t       testing.TB
	request *http.Request
	status  int
	header  http.Header
	body    string
}

// want fails the test unless the answer has this status.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s %s: status %d, want %d: %s", a.request.Method, a.request.URL.RequestURI(), a.status, status, shorten(a.body))
	}
	return a
}

// shorten keeps a body readable in a failure's message.
func shorten(s string) string {
	if len(s) > 2000 {
		return s[:2000] + "…"
	}
	return s
}

// wantText fails the test unless two texts are the same; it shows them from where they part.
func wantText(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	same := 0
	for same < min(len(got), len(want)) && got[same] == want[same] {
		same++
	}
	from := max(0, same-200)
	t.Errorf("%s: %s, want %s", what, shorten(got[from:]), shorten(want[from:]))
}

// decode reads the body into what v points to.
func (a answer) decode(v any) {
	a.t.Helper()
	decode(a.t, a.body, v)
}

func decode(t testing.TB, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("decoding %s: %v", shorten(text), err)
	}
}

// at is the text of the body at a JSON pointer without escapes, digit for digit; "" where there is nothing.
func (a answer) at(pointer string) string {
	a.t.Helper()
	return at(a.t, a.body, pointer)
}

func at(t testing.TB, text, pointer string) string {
	t.Helper()
	for _, key := range strings.Split(pointer, "/")[1:] {
		if index, err := strconv.Atoi(key); err == nil && strings.HasPrefix(text, "[") {
			var array []json.RawMessage
			decode(t, text, &array)
			if index >= len(array) {
				return ""
			}
			text = string(array[index])
			continue
		}
		var object map[string]json.RawMessage
		decode(t, text, &object)
		if text = string(object[key]); text == "" {
			return ""
		}
	}
	return text
}

// has fails the test unless the text at each pointer is the one that follows it.
func (a answer) has(pairs ...string) answer {
	a.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := a.at(pairs[i]); got != pairs[i+1] {
			a.t.Errorf("%s %s: %s is %s, want %s", a.request.Method, a.request.URL.RequestURI(), pairs[i], shorten(got), shorten(pairs[i+1]))
		}
	}
	return a
}

// hasHeader fails the test unless the header has this value, "" being none.
func (a answer) hasHeader(name, want string) answer {
	a.t.Helper()
	if got := strings.Join(a.header.Values(name), ", "); got != want {
		a.t.Errorf("%s %s: %s is %q, want %q", a.request.Method, a.request.URL.RequestURI(), name, got, want)
	}
	return a
}

// flow is the whole flow that was answered, as section 1 has it, its free JSON as text.
type flow struct {
	ID              string            `json:"id"`
	Mode            string            `json:"mode"`
	ControllerID    string            `json:"controller_id"`
	Goal            string            `json:"goal"`
	OwnerSessionKey string            `json:"owner_session_key"`
	RequesterOrigin string            `json:"requester_origin"`
	CurrentStep     string            `json:"current_step"`
	State           json.RawMessage   `json:"state"`
	Wait            *wait             `json:"wait"`
	ResumedBy       json.RawMessage   `json:"resumed_by"`
	Status          string            `json:"status"`
	CancelRequested bool              `json:"cancel_requested"`
	Revision        int64             `json:"revision"`
	Labels          map[string]string `json:"labels"`
	CreatedAt       string            `json:"created_at"`
	UpdatedAt       string            `json:"updated_at"`
	EndedAt         *string           `json:"ended_at"`
}

type wait struct {
	Kind       string          `json:"kind"`
	Generation int64           `json:"generation"`
	Since      string          `json:"since"`
	Details    json.RawMessage `json:"details"`
}

// step is one step that was answered.
type step struct {
	ID              string          `json:"id"`
	FlowID          string          `json:"flow_id"`
	RunID           string          `json:"run_id"`
	Runtime         string          `json:"runtime"`
	Task            string          `json:"task"`
	Status          string          `json:"status"`
	ChildSessionKey *string         `json:"child_session_key"`
	Result          json.RawMessage `json:"result"`
	ObservedAt      string          `json:"observed_at"`
	CreatedAt       string          `json:"created_at"`
	UpdatedAt       string          `json:"updated_at"`
}

// event is one audit event that was answered.
type event struct {
	Seq      int64           `json:"seq"`
	FlowID   string          `json:"flow_id"`
	Revision int64           `json:"revision"`
	Kind     string          `json:"kind"`
	Payload  json.RawMessage `json:"payload"`
	Actor    string          `json:"actor"`
	At       string          `json:"at"`

	Traceparent *string `json:"traceparent"`
}

// flow reads an answer with a whole flow, whose revision must be in the ETag as a strong tag.
func (a answer) flow() flow {
	a.t.Helper()
	var f flow
	a.decode(&f)
	a.hasHeader("ETag", tag(f.Revision))
	return f
}

// tag is a revision as a strong tag.
func tag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

func (a answer) step() step {
	a.t.Helper()
	var s step
	a.decode(&s)
	return s
}

// flows, steps and events read the items of a list.
func (a answer) flows() []flow   { a.t.Helper(); return items[flow](a) }
func (a answer) steps() []step   { a.t.Helper(); return items[step](a) }
func (a answer) events() []event { a.t.Helper(); return items[event](a) }

func items[T any](a answer) []T {
	a.t.Helper()
	var list struct{ Items []T }
	a.want(http.StatusOK).decode(&list)
	return list.Items
}

// next is the next_cursor of a list, "" at its end.
func (a answer) next() string {
	a.t.Helper()
	var list struct {
		NextCursor *string `json:"next_cursor"`
	}
	a.decode(&list)
	if list.NextCursor == nil {
		return ""
	}
	return *list.NextCursor
}

// problem is an error answer.
type problem struct {
	answer
	Type   string
	Title  string
	Status int
	Detail string
	Errors []struct{ Pointer, Detail string }
}

// problem fails the test unless the answer is this problem.
func (a answer) problem(status int, slug string) problem {
	a.t.Helper()
	p := problem{answer: a.want(status)}
	a.decode(&p)
	if p.Type != "/problems/"+slug {
		a.t.Fatalf("%s %s: %s, want /problems/%s: %s", a.request.Method, a.request.URL.RequestURI(), p.Type, slug, shorten(a.body))
	}
	return p
}

// pointers fails the test unless the problem's errors are at exactly these places.
func (p problem) pointers(want ...string) problem {
	p.t.Helper()
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Pointer)
		if e.Detail == "" {
			p.t.Errorf("the error at %q has no detail", e.Pointer)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") || len(got) != len(want) {
		p.t.Errorf("%s %s: errors at %q, want %q: %s", p.request.Method, p.request.URL.RequestURI(), got, want, p.body)
	}
	return p
}
