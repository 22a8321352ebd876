package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

const (
	soakWorkers = 12
	slowReaders = 3
	// slowness is for how long a slow reader reads nothing: longer than a server waits for one.
	slowness = 15 * time.Second
)

// callers are the keys of those who make the load.
type callers struct {
	root, tight, revoked string
}

func soakCallers(t *testing.T, url string) callers {
	t.Helper()
	root, _ := makeKey(t, url, append(everything("root"), "--scope", "admin")...)
	tight, _ := makeKey(t, url, "--name", "tight", "--scope", "flows:read", "--scope", "flows:write", "--scope", "events:write", "--owner", "agent:soak:*")
	revoked, id := makeKey(t, url, everything("revoked")...)
	if r := servertest.Run(t, servertest.Options{Database: url}, "keys", "revoke", id); r.Code != 0 {
		t.Fatalf("keys revoke: %+v", r)
	}
	return callers{root, tight, revoked}
}

// mixedLoad has clients do everything that the API has, for a time, and returns how many requests they sent. Their
// connections are closed when it returns.
func mixedLoad(t *testing.T, url string, who callers, lasts time.Duration) int64 {
	t.Helper()
	var sent atomic.Int64
	var scrape sync.Mutex
	t.Run("load", func(t *testing.T) {
		c := servertest.NewClient(t, url)
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		var working sync.WaitGroup
		for i := range soakWorkers {
			w := &soaker{t: t, ctx: ctx, client: c.As([]string{who.root, who.tight}[i%2]), revoked: c.As(who.revoked), root: c.As(who.root), sent: &sent, scrape: &scrape}
			working.Go(func() {
				for ctx.Err() == nil && !t.Failed() {
					w.story()
				}
			})
			if i < slowReaders {
				working.Go(w.readSlowly)
			}
		}
		working.Wait()
	})
	return sent.Load()
}

// soaker is one client.
type soaker struct {
	t             *testing.T
	ctx           context.Context // of the load
	client        *servertest.Client
	revoked, root *servertest.Client // the same with other keys
	sent          *atomic.Int64
	scrape        *sync.Mutex // held by who reads the metrics
}

// send sends a request that must be answered with one of the statuses that a server under load may give.
func (w *soaker) send(method, path, body string, header ...string) servertest.Answer {
	return w.sendAs(w.client, method, path, body, header...)
}

func (w *soaker) sendAs(c *servertest.Client, method, path, body string, header ...string) servertest.Answer {
	w.sent.Add(1)
	answer, err := c.Send(method, path, body, header...)
	if err != nil || answer.Status >= 500 {
		w.t.Errorf("%s %s: %v, %d: %s", method, path, err, answer.Status, answer.Body)
	}
	return answer
}

// story takes one flow through a wait of some kind to its end, with reads, refusals and repeats on the way.
func (w *soaker) story() {
	var f servertest.Flow
	created := w.send(http.MethodPost, "/flows", `{"mode": "mirrored", "controller_id": "soak", "goal": "Last", "owner_session_key": "agent:soak:1", "labels": {"a": "b"}}`)
	if err := created.Decode(&f); err != nil || f.ID == "" {
		w.t.Errorf("a flow was not created: %v: %s", err, created.Body)
		return
	}
	path := "/flows/" + f.ID
	w.send(http.MethodPut, path+"/steps/one", `{"task": "Work", "status": "running"}`)
	for range 2 {
		w.send(http.MethodPost, path+"/state", `{"patch": {"a": [1.10]}, "current_step": "two"}`, "Idempotency-Key", f.ID)
	}
	w.send(http.MethodPost, path+"/state", `{"patch": 1}`, "If-Match", `"0"`) // 409
	w.wait(path, f.ID)
	for _, read := range []string{path, path + "/events", path + "/steps", path + "/wait", "/flows?limit=5&label=a:b", "/events?order=-seq&limit=5", "/stats", "/flows/none", "/readyz", "/", "/docs"} {
		w.send(http.MethodGet, read, "")
	}
	w.listen(path)
	w.knock(path)
	w.send(http.MethodPost, "/batch", fmt.Sprintf(`{"commands": [{"method": "POST", "path": "%s/resume"}, {"method": "POST", "path": "%s/finish"}]}`, path, path))
	w.send(http.MethodPost, path+"/finish", `{"nonsense": 1}`)
	if rand.IntN(2) == 0 {
		w.send(http.MethodDelete, path, "")
	}
}

// wait begins a wait and has it end.
func (w *soaker) wait(path, id string) {
	begin := func(wait string) servertest.Answer {
		return w.send(http.MethodPost, path+"/wait", `{"wait": `+wait+`}`)
	}
	callback := func(condition string, header ...string) {
		var waiting struct{ Wait struct{ URL string } }
		if err := begin(condition).Decode(&waiting); err != nil {
			w.t.Errorf("a wait did not begin: %v", err)
			return
		}
		target := strings.TrimPrefix(waiting.Wait.URL, w.client.URL)
		w.send(http.MethodGet, target, "")
		for range 2 {
			w.send(http.MethodPost, target, `{"a": 1}`, header...)
		}
	}
	switch rand.IntN(5) {
	case 0:
		begin(`{"kind": "timer", "after": "PT0.05S"}`)
	case 1:
		begin(fmt.Sprintf(`{"kind": "external_event", "topic": "soak", "correlation_id": %q, "timeout": {"after": "PT1S", "on_timeout": "resume"}}`, id))
		w.send(http.MethodPost, "/external-events", fmt.Sprintf(`{"topic": "soak", "correlation_id": %q, "payload": {"a": 1}}`, id))
	case 2:
		callback(`{"kind": "callback"}`)
	case 3: // whose signature is wrong
		callback(`{"kind": "callback", "verify": {"scheme": "github", "secret": "It's a Secret to Everybody"}}`, "X-Hub-Signature-256", "sha256=00")
	default:
		begin(`{"kind": "any_of", "conditions": [{"kind": "manual"}, {"kind": "timer", "after": "P1D"}]}`)
	}
}

// listen waits for changes in every way that there is, and leaves in the middle.
func (w *soaker) listen(path string) {
	ctx, cancel := context.WithTimeout(w.ctx, time.Duration(1+rand.IntN(50))*time.Millisecond)
	defer cancel()
	switch rand.IntN(4) {
	case 0: // a read that waits, given up
		w.sent.Add(1)
		tag := w.send(http.MethodGet, path, "").Header.Get("ETag")
		if answer, err := w.client.SendWithin(ctx, http.MethodGet, path, "", "Prefer", "wait=30", "If-None-Match", tag); err == nil && answer.Status >= 400 {
			w.t.Errorf("a read that waits: %d: %s", answer.Status, answer.Body)
		}
	case 1: // one that is answered, as there is something
		w.send(http.MethodGet, path+"/events?after=0", "", "Prefer", "wait=30")
	default:
		w.follow(ctx, path)
	}
}

// follow reads some events of a live stream, of one flow or of all, and drops it.
func (w *soaker) follow(ctx context.Context, path string) {
	stream := "/events?after=0"
	if rand.IntN(2) == 0 {
		stream = path + "/events?after=0"
	}
	w.sent.Add(1)
	s, err := w.client.Stream(ctx, stream)
	var refused *servertest.StatusError
	if errors.As(err, &refused) {
		w.t.Errorf("a stream: %v", err)
	}
	if err != nil {
		return
	}
	defer s.Close()
	for range 1 + rand.IntN(20) {
		if _, err := s.NextEvent(); err != nil {
			return
		}
	}
}

// knock comes with a key that is revoked, with none, and without the scope that is needed.
func (w *soaker) knock(path string) {
	for c, status := range map[*servertest.Client]int{w.revoked: http.StatusUnauthorized, w.client.As(""): http.StatusUnauthorized, w.root: http.StatusOK} {
		if answer := w.sendAs(c, http.MethodGet, path, ""); answer.Status != status {
			w.t.Errorf("GET %s: %d, want %d: %s", path, answer.Status, status, answer.Body)
		}
	}
	if w.scrape.TryLock() { // one at a time, as Prometheus does: a server takes only a few
		defer w.scrape.Unlock()
		if answer := w.sendAs(w.root, http.MethodGet, "/metrics", ""); answer.Status != http.StatusOK {
			w.t.Errorf("GET /metrics: %d", answer.Status)
		}
	}
}

// readSlowly opens streams of everything and reads next to nothing of them, until the load ends.
func (w *soaker) readSlowly() {
	for w.ctx.Err() == nil && !w.t.Failed() {
		ctx, cancel := context.WithTimeout(w.ctx, slowness)
		s, err := w.client.Stream(ctx, "/events?after=0")
		if err == nil {
			_, _ = s.NextEvent()
			<-ctx.Done()
			s.Close()
		} else if ctx.Err() == nil {
			w.t.Errorf("a stream for a slow reader: %v", err)
		}
		cancel()
	}
}
