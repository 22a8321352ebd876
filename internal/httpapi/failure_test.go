package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/servertest"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

// faultyReader fails, blocks or panics before it reads, as a test asks.
type faultyReader struct {
	store.Reader
	before func(context.Context) error
}

func guarded[T any](ctx context.Context, r faultyReader, read func() (T, error)) (T, error) {
	if err := r.before(ctx); err != nil {
		var none T
		return none, err
	}
	return read()
}

func (r faultyReader) Flow(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.Flow, error) {
	return guarded(ctx, r, func() (*flows.Flow, error) { return r.Reader.Flow(ctx, id, owners) })
}

func (r faultyReader) Flows(ctx context.Context, q store.FlowQuery) (store.FlowPage, error) {
	return guarded(ctx, r, func() (store.FlowPage, error) { return r.Reader.Flows(ctx, q) })
}

func (r faultyReader) Step(ctx context.Context, key store.StepKey, owners flows.Owners) (*flows.Step, error) {
	return guarded(ctx, r, func() (*flows.Step, error) { return r.Reader.Step(ctx, key, owners) })
}

func (r faultyReader) Steps(ctx context.Context, q store.StepQuery) (store.StepPage, error) {
	return guarded(ctx, r, func() (store.StepPage, error) { return r.Reader.Steps(ctx, q) })
}

func (r faultyReader) Events(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	return guarded(ctx, r, func() (store.EventPage, error) { return r.Reader.Events(ctx, q) })
}

func (r faultyReader) ExternalEvent(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.ExternalEvent, error) {
	return guarded(ctx, r, func() (*flows.ExternalEvent, error) { return r.Reader.ExternalEvent(ctx, id, owners) })
}

func (r faultyReader) ExternalEvents(ctx context.Context, q store.ExternalEventQuery) (store.ExternalEventPage, error) {
	return guarded(ctx, r, func() (store.ExternalEventPage, error) { return r.Reader.ExternalEvents(ctx, q) })
}

func (r faultyReader) Stats(ctx context.Context, owners flows.Owners) (store.Stats, error) {
	return guarded(ctx, r, func() (store.Stats, error) { return r.Reader.Stats(ctx, owners) })
}

func (r faultyReader) SchemaVersion(ctx context.Context) (int64, error) {
	return guarded(ctx, r, func() (int64, error) { return r.Reader.SchemaVersion(ctx) })
}

func withFaults(s *setup) { s.faults = true }

// readPaths are those of every call that reads the database.
func readPaths(flow string) []string {
	return []string{"/flows", flow, flow + "/steps", flow + "/steps/r", flow + "/events", "/events", "/external-events", "/stats"}
}

// TestDatabaseThatIsGone asks everything of a server whose database is closed.
func TestDatabaseThatIsGone(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		api.closeStore()
		answers := []answer{api.post("/flows", createBody("")), api.post("/batch", batchOf(command("POST", "/flows", `,"body":`+createBody(""))), "Idempotency-Key: k")}
		for _, c := range commands {
			answers = append(answers, api.do(c.method, flow+c.path, c.body))
		}
		for _, path := range append(readPaths(flow), "/readyz") {
			answers = append(answers, api.get(path))
		}
		answers = append(answers, api.batch(command("POST", flow+"/start", ""))...)
		for _, a := range answers {
			a.problem(503, "unavailable").has("/outcome_unknown", "")
		}
		api.get("/livez").want(200) // asks nothing of the database
		api.get("/docs").want(200)
	})
}

// TestUnavailableChangesNothing fails one commit of each command.
func TestUnavailableChangesNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for name, status := range changes {
			c, path := commands[name], api.inStatus(status)
			before := api.snapshot()
			api.faulty.Inject(storetest.Unavailable())
			api.do(c.method, path+c.path, c.body, "Idempotency-Key: "+name).problem(503, "unavailable").has("/outcome_unknown", "").hasHeader("Retry-After", "1")
			wantText(t, name, api.snapshot(), before)
			if a := api.do(c.method, path+c.path, c.body, "Idempotency-Key: "+name); a.status/100 != 2 || a.header.Get("Idempotent-Replayed") != "" {
				t.Errorf("%s afterwards: %d %s", name, a.status, a.body)
			}
		}
	}, withFaults)
}

// TestUnknownOutcomeIsSettledByARepeat breaks the connection during commits that went through, and that did not.
func TestUnknownOutcomeIsSettledByARepeat(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, persisted := range []bool{true, false} {
			fault := storetest.UnknownLost()
			replayed := ""
			if persisted {
				fault, replayed = storetest.UnknownPersisted(), "true"
			}
			flow := api.created("")
			for i, c := range []struct{ path, body string }{
				{"/flows", createBody("")}, {flow + "/start", ""}, {flow + "/state", `{"patch":{"a":1}}`}, {flow + "/cancel", ""},
				{"/batch", batchOf(command("POST", "/flows", `,"body":`+createBody("")), command("POST", flow+"/start", ""))},
			} {
				key := fmt.Sprintf("Idempotency-Key: %t-%d", persisted, i)
				count := len(api.get("/events?limit=500").events())
				api.faulty.Inject(fault)
				api.post(c.path, c.body, key).problem(503, "unavailable").has("/outcome_unknown", "true")
				if a := api.post(c.path, c.body, key); a.status/100 != 2 || a.header.Get("Idempotent-Replayed") != replayed {
					t.Errorf("%s: the repeat was answered %d, replayed %q: %s", c.path, a.status, a.header.Get("Idempotent-Replayed"), a.body)
				}
				if now := len(api.get("/events?limit=500").events()); now != count+1 {
					t.Errorf("%s: %d events came, want 1", c.path, now-count)
				}
			}
			// The calls that take no key repeat themselves well without.
			api.faulty.Inject(fault)
			api.observe(flow, "r", "running").problem(503, "unavailable").has("/outcome_unknown", "true")
			if a := api.observe(flow, "r", "running"); a.status != map[bool]int{true: 200, false: 201}[persisted] {
				t.Errorf("the repeated observation was answered %d", a.status)
			}
			api.faulty.Inject(fault)
			api.erase(flow).problem(503, "unavailable").has("/outcome_unknown", "true")
			api.erase(flow).want(map[bool]int{true: 404, false: 204}[persisted])
		}
		// Each command of a batch without a key has an answer of its own.
		api.faulty.Inject(storetest.UnknownLost())
		for _, a := range api.batch(command("POST", "/flows", `,"body":`+createBody("")), command("POST", "/flows", `,"body":`+createBody(""))) {
			a.problem(503, "unavailable").has("/outcome_unknown", "true")
		}
	}, withFaults)
}

// secret stands for what a database says and a client must not see.
const secret = `relation "flows" password=hunter2`

// TestUnexpectedErrorShowsNothingOfTheInside makes the database refuse, and code panic.
func TestUnexpectedErrorShowsNothingOfTheInside(t *testing.T) {
	writes := func(w store.Writes) bool { return !w.Empty() }
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		for i, fault := range []storetest.Fault{storetest.Refused(errors.New(secret), writes), {Panic: secret, Match: writes, Times: -1}} {
			before := api.snapshot()
			api.faulty.Inject(fault)
			for name, c := range commands {
				id := fmt.Sprintf("trace-%d-%s", i, name)
				a := api.do(c.method, flow+c.path, c.body, "X-Request-Id: "+id)
				if name == "start" || name == "resume" || name == "delete" {
					a.want(409) // refused before anything is written
					continue
				}
				api.internal(a, id)
			}
			api.internal(api.post("/flows", createBody(""), "X-Request-Id: trace-create"), "trace-create")
			batch := batchOf(command("POST", "/flows", `,"body":`+createBody("")), command("POST", flow+"/finish", ""))
			for _, one := range results(api.post("/batch", batch, fmt.Sprintf("X-Request-Id: trace-batch-%d", i))) {
				api.internal(one, fmt.Sprintf("trace-batch-%d", i))
			}
			api.internal(api.post("/batch", batch, "Idempotency-Key: k", "X-Request-Id: trace-keyed"), "trace-keyed")
			api.faulty.Heal()
			wantText(t, "afterwards", api.snapshot(), before)
		}
	}, withFaults)
}

// TestDatabaseTroubleIsLoggedOnce holds that one request leaves one line, under its id, and a batch one as well.
func TestDatabaseTroubleIsLoggedOnce(t *testing.T) {
	writes := func(w store.Writes) bool { return !w.Empty() }
	for name, cause := range map[string]error{"away": fmt.Errorf("%w: %s", store.ErrUnavailable, secret), "unexpected": errors.New(secret)} {
		t.Run(name, func(t *testing.T) {
			api := serveSQLite(t, withFaults)
			api.faulty.Inject(storetest.Refused(cause, writes))
			before := strings.Count(api.logged.String(), "hunter2")
			for i, path := range []string{"/flows", "/batch"} {
				body := createBody("")
				if path == "/batch" {
					body = batchOf(command("POST", "/flows", `,"body":`+body), command("POST", "/flows", `,"body":`+body))
				}
				id := fmt.Sprint("once-", i)
				api.post(path, body, "X-Request-Id: "+id)
				log := api.logged.String()
				if all, own := strings.Count(log, "hunter2")-before, strings.Count(log, "request_id="+id); all != i+1 || own != 1 {
					t.Errorf("POST %s: %d lines of trouble for %d requests, %d under its id:\n%s", path, all, i+1, own, log)
				}
			}
		})
	}
}

// internal fails the test unless an answer is an internal error that says nothing, and the log says the rest under the
// request's id.
func (c *client) internal(a answer, id string) {
	c.t.Helper()
	a.problem(500, "internal").has("/instance", quoted(id), "/errors", "")
	if strings.Contains(a.body, "hunter2") || strings.Contains(a.body, "relation") || strings.Contains(a.body, "panic") || strings.Contains(a.body, ".go") {
		c.t.Errorf("the answer shows the inside: %s", a.body)
	}
	for line := range strings.Lines(c.logged.String()) {
		if strings.Contains(line, "request_id="+id) && strings.Contains(line, "hunter2") {
			return
		}
	}
	c.t.Errorf("the log does not have the cause under %s:\n%s", id, c.logged)
}

// TestReadsThatFail makes every read fail in each of the ways it can.
func TestReadsThatFail(t *testing.T) {
	var fail func(context.Context) error
	api := serveSQLite(t, func(s *setup) {
		s.reads = func(ctx context.Context) error {
			if fail == nil {
				return nil
			}
			return fail(ctx)
		}
	})
	flow := api.running("")
	api.observe(flow, "r", "running").want(201)
	for _, path := range readPaths(flow) {
		fail = func(context.Context) error { return fmt.Errorf("%s: %w", secret, store.ErrUnavailable) }
		if a := api.get(path); strings.Contains(a.problem(503, "unavailable").body, "hunter2") {
			t.Errorf("the answer shows the inside: %s", a.body)
		}
		fail = func(context.Context) error { return context.DeadlineExceeded }
		api.get(path).problem(503, "unavailable")
		fail = func(context.Context) error { return errors.New(secret) }
		api.internal(api.get(path, "X-Request-Id: error"), "error")
		fail = func(context.Context) error { panic(secret) }
		api.internal(api.get(path, "X-Request-Id: crash"), "crash")
		api.do("HEAD", path, "").want(500)
		fail = nil
		api.get(path).want(200)
	}
	fail = func(context.Context) error { return errors.New(secret) }
	if a := api.get("/readyz"); strings.Contains(a.problem(503, "unavailable").body, "hunter2") {
		t.Errorf("the answer shows the inside: %s", a.body)
	}
	fail = func(context.Context) error { panic(secret) }
	api.internal(api.get("/readyz", "X-Request-Id: ready"), "ready")
	fail = nil
}

// TestOverloaded fills a queue of one behind a commit that does not come to an end.
func TestOverloaded(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		gate := api.faulty.Block()
		defer gate.Release()
		answers := make(chan answer, 4)
		send := func() {
			answers <- api.post("/flows", createBody(""))
		}
		go send() // each of these ends once the gate is open, and is received below
		<-gate.Arrived()
		for range 2 { // one finds a place in the queue, the other does not
			go send()
		}
		(<-answers).problem(503, "overloaded").has("/outcome_unknown", "").hasHeader("Retry-After", "1")
		api.post(flow+"/start", "").problem(503, "overloaded")
		api.post("/batch", batchOf(command("POST", flow+"/start", ""))).problem(503, "overloaded")
		api.get(flow).want(200).has("/status", `"created"`) // reads do not queue
		gate.Release()
		for range 2 {
			(<-answers).want(201)
		}
		api.post(flow+"/start", "").want(200)
		if n := len(api.get("/flows").flows()); n != 3 {
			t.Errorf("%d flows, want 3", n)
		}
	}, withFaults, func(s *setup) { s.engine.Committers, s.engine.Queue = 1, 1 })
}

// TestStrangersDoNotFailTogether commits two changes in one batch of which the database refuses one.
func TestStrangersDoNotFailTogether(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		bad, good := api.running(""), api.running("")
		api.faulty.Inject(storetest.Refused(errors.New(secret), storetest.WritesFlow(uuid.MustParse(bad[len("/flows/"):]))))
		for _, a := range api.batch(command("POST", good+"/state", `,"body":{"goal":"a"}`), command("POST", bad+"/finish", ""), command("POST", good+"/finish", "")) {
			if a.status == http.StatusInternalServerError {
				a.problem(500, "internal")
				continue
			}
			a.want(200).has("/id", quoted(good[len("/flows/"):]))
		}
		api.get(bad).has("/status", `"running"`, "/revision", "1")
		api.get(good).has("/status", `"finished"`, "/revision", "3")
	}, withFaults)
}

// TestSlowRequestIsGivenUp lets a request run into its time limit; what it asked for may still be made.
func TestSlowRequestIsGivenUp(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		gate := api.faulty.Block()
		defer gate.Release()
		const key = "Idempotency-Key: k"
		api.post("/flows", createBody(""), key).problem(503, "unavailable").has("/outcome_unknown", "true")
		gate.Release()
		a := api.post("/flows", createBody(""), key)
		for a.status == http.StatusServiceUnavailable { // a slow machine may need another try, which is what a key is for
			a = api.post("/flows", createBody(""), key)
		}
		a.want(201).hasHeader("Idempotent-Replayed", "true")
		if n := len(api.get("/flows").flows()); n != 1 {
			t.Errorf("%d flows, want 1", n)
		}
	}, withFaults, func(s *setup) { s.options.RequestTimeout = time.Second })
	t.Run("read", func(t *testing.T) {
		api := serveSQLite(t, func(s *setup) {
			s.options.RequestTimeout = 20 * time.Millisecond
			s.reads = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		})
		api.get("/flows").problem(503, "unavailable")
	})
}

// TestCallerThatHangsUpAbandonsTheAnswerOnly closes the connection while its command waits.
func TestCallerThatHangsUpAbandonsTheAnswerOnly(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		gate := api.faulty.Block()
		defer gate.Release()
		ctx, hangUp := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { // ends when it is hung up on, below
			_, err := api.try(ctx, http.MethodPost, flow+"/start", "")
			ended <- err
		}()
		<-gate.Arrived()
		hangUp()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the request ended with %v", err)
		}
		gate.Release()
		api.post(flow+"/finish", "").want(200).has("/revision", "2") // it is behind the start in the same queue
	}, withFaults)
}

// TestServerThatStops is not ready, turns changes away and still reads.
func TestServerThatStops(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		api.get("/readyz").want(200)
		api.api.StopAccepting()
		api.get("/readyz").problem(503, "unavailable")
		api.post(flow+"/start", "").want(200) // whoever comes all the same is served
		api.stopEngine()
		api.refused(503, "unavailable", "POST", flow+"/finish", "").has("/outcome_unknown", "")
		api.refused(503, "unavailable", "POST", "/batch", batchOf(command("POST", flow+"/finish", "")))
		api.get("/livez").want(200)
	})
}

// TestServerThatLetsNobodyIn is not ready while it cannot read the keys. Once it is ready, it serves.
func TestServerThatLetsNobodyIn(t *testing.T) {
	t.Parallel()
	var back atomic.Bool
	api := serveSQLite(t, twoTenants, func(s *setup) {
		s.keyReads = func() error {
			if back.Load() {
				return nil
			}
			return store.ErrUnavailable
		}
	})
	p := api.get("/readyz").problem(503, "unavailable")
	wantText(t, "detail", p.Detail, "It cannot be found out now whether credentials are good.")
	api.as("kate").get("/flows").problem(503, "unavailable")
	back.Store(true)
	if err := servertest.Await(t.Context(), time.Minute, func() bool { return api.get("/readyz").status == 200 }); err != nil {
		t.Fatal(err)
	}
	api.as("kate").get("/flows").want(200)
}

func TestServerThatIsNewerThanItsSchemaIsNotReady(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		api.get("/readyz").problem(503, "unavailable")
		api.get("/livez").want(200)
	}, func(s *setup) { s.options.SchemaVersion = 1 << 40 })
}
