package faults_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/servertest"

	"github.com/google/uuid"
)

var rounds = flag.Int("rounds", 2, "how many times each test of a kill kills")

// TestMain lets more tests run at once than there are processors: most of what they do is to wait.
func TestMain(m *testing.M) {
	flag.Parse()
	parallel := flag.Lookup("test.parallel")
	if parallel.Value.String() == parallel.DefValue {
		_ = flag.Set(parallel.Name, "6") // there is such a flag, and it takes numbers
	}
	m.Run()
}

const (
	workers   = 12
	hotFlows  = 4
	patience  = time.Minute // for anything that must happen at all
	afterFail = 5 * time.Millisecond
)

// load is a number of workers that send changes until they are stopped.
type load struct {
	t       *testing.T
	ledger  *ledger
	servers []*servertest.Server
	hot     []string // flows that all workers change at once
	foreign string   // a flow that only the first caller covers; "" where nobody needs a key
	stop    chan struct{}
	working sync.WaitGroup
	numbers *atomic.Int64 // for marks
	// persistent workers repeat, at the next server, what was not made or got no answer, until it is made.
	persistent bool
}

// startLoad begins with the flows that every worker changes.
func startLoad(t *testing.T, servers []*servertest.Server, l *ledger) *load {
	t.Helper()
	return startLoadOf(t, servers, l, false)
}

func startLoadOf(t *testing.T, servers []*servertest.Server, l *ledger, persistent bool) *load {
	t.Helper()
	g := &load{t: t, ledger: l, servers: servers, stop: make(chan struct{}), numbers: new(atomic.Int64), persistent: persistent}
	g.numbers.Store(int64(len(l.requests)) * 100) // past the marks of the rounds before
	for range hotFlows {
		g.hot = append(g.hot, g.prepare(g.caller(len(l.callers)-1))) // whose flows every other covers
	}
	if len(l.callers) > 0 {
		g.foreign = g.prepare(l.callers[0])
	}
	for i := range workers {
		w := &worker{load: g, server: i % len(servers), caller: g.caller(i)}
		g.working.Go(w.work)
	}
	t.Cleanup(g.finish) // where the test gives up half-way
	return g
}

// caller is one of the ledger's, in turn; nil where there are none.
func (g *load) caller(i int) *caller {
	if len(g.ledger.callers) == 0 {
		return nil
	}
	return g.ledger.callers[i%len(g.ledger.callers)]
}

// prepare makes a flow of one caller, before the load begins.
func (g *load) prepare(by *caller) (id string) {
	g.t.Helper()
	w := &worker{load: g, caller: by}
	id, f := w.create("managed")
	if f != made {
		g.t.Fatalf("a flow could not be created: %v", g.ledger.odd)
	}
	return id
}

// awaitMore waits until so many more changes were acknowledged than now.
func (g *load) awaitMore(n int) {
	g.t.Helper()
	before, _, _ := g.ledger.counts()
	err := servertest.Await(g.t.Context(), patience, func() bool {
		acknowledged, _, _ := g.ledger.counts()
		return acknowledged >= before+n
	})
	if err != nil {
		acknowledged, refused, unanswered := g.ledger.counts()
		g.t.Fatalf("%d more changes were not acknowledged within %v: %d are, %d refused, %d unanswered; %v",
			n, patience, acknowledged-before, refused, unanswered, g.ledger.odd)
	}
}

// finish stops the workers and waits for the answers they are owed.
func (g *load) finish() {
	select {
	case <-g.stop:
	default:
		close(g.stop)
	}
	g.working.Wait()
}

// worker is one client.
type worker struct {
	load   *load
	server int     // the one it talks to
	caller *caller // who it is, nil where nobody needs a key
}

// work tells stories until the load is stopped.
func (w *worker) work() {
	stories := []func(){w.life, w.life, w.patchHot, w.patchHot, w.patchHot, w.observeHot, w.batchHot, w.mirror}
	if w.caller != nil && w.caller != w.load.ledger.callers[0] {
		stories = append(stories, w.trespass)
	}
	for !w.stopped() {
		stories[rand.IntN(len(stories))]()
	}
}

func (w *worker) stopped() bool {
	select {
	case <-w.load.stop:
		return true
	default:
		return false
	}
}

// checkLogs checks that nothing of a request's content is in a log, whatever went wrong.
func checkLogs(t *testing.T, servers []*servertest.Server) {
	t.Helper()
	for _, s := range servers {
		if log := s.Log(); strings.Contains(log, "mark-") || !strings.Contains(log, "listening") {
			t.Errorf("a log shows what requests contain:\n%.2000s", log[max(0, strings.Index(log, "mark-")-500):])
		}
	}
}

// mark is a new string that no other request has.
func (w *worker) mark() string { return fmt.Sprintf("mark-%d", w.load.numbers.Add(1)) }

// send sends a request and records what comes of it. Without an answer the worker goes on with the next server.
func (w *worker) send(r *request) fate {
	r.caller = w.caller
	began := time.Now()
	answer, err := r.send(w.load.servers[w.server].Client)
	f := w.load.ledger.record(r, answer, err, time.Since(began))
	if w.load.persistent {
		return w.persist(r, f)
	}
	if err != nil {
		w.moveOn()
	}
	if f != made {
		w.pause()
	}
	return f
}

// lastTries is how often a persistent worker repeats a request when the load has ended: all servers are up then.
const lastTries = 10

// persist repeats a request at one server after the other until it is made, if it can be repeated.
func (w *worker) persist(r *request, f fate) fate {
	for last := 0; f != made && (f == notMade || r.key != "") && last < lastTries; {
		if w.stopped() {
			last++
		}
		w.moveOn()
		w.pause()
		at := time.Now()
		answer, err := r.send(w.load.servers[w.server].Client)
		f = w.load.ledger.repeat(r, at, answer, err)
	}
	return f
}

func (w *worker) moveOn() { w.server = (w.server + 1) % len(w.load.servers) }

// pause is for what is down: it is not to be asked a thousand times a second.
func (w *worker) pause() {
	pause := time.NewTimer(afterFail)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-w.load.stop:
	}
}

// key is an idempotency key for two requests in three, or for all of a worker that repeats them.
func (w *worker) key() string {
	if !w.load.persistent && rand.IntN(3) == 0 {
		return ""
	}
	return uuid.NewString()
}

// command sends one command about a flow; body has %s for the mark, if the command has a body.
func (w *worker) command(flowID, verb, kind, body string) fate {
	e := effect{flow: flowID, kind: kind}
	if body != "" {
		e.mark = w.mark()
		body = strings.ReplaceAll(body, "%s", e.mark)
	}
	return w.send(&request{method: http.MethodPost, path: "/flows/" + flowID + "/" + verb, body: body, key: w.key(), effects: []effect{e}})
}

// create makes a flow, under an id of its own so that it can be found without an answer.
func (w *worker) create(mode string) (id string, f fate) {
	id = uuid.NewString()
	mark, owner := w.mark(), "faults"
	if w.caller != nil {
		owner = w.caller.owner
	}
	body := fmt.Sprintf(`{"id": %q, "mode": %q, "controller_id": "faults", "goal": "Survive", "owner_session_key": %q, "state": {%q: 1.10}}`,
		id, mode, owner, mark)
	r := &request{method: http.MethodPost, path: "/flows", body: body, key: w.key(), effects: []effect{{flow: id, kind: "created", mark: mark}}}
	if mode == "mirrored" {
		r.effects[0].revision = -1
		r.effects = append(r.effects, effect{flow: id, kind: "started"})
	}
	return id, w.send(r)
}

func (w *worker) observe(flowID, status string) fate {
	run := w.mark()
	return w.send(&request{
		method: http.MethodPut, path: "/flows/" + flowID + "/steps/" + run, body: fmt.Sprintf(`{"task": "Work", "status": %q}`, status),
		effects: []effect{{flow: flowID, kind: stepObserved, mark: run}},
	})
}

// life takes a flow from its creation to an end. Whatever is not acknowledged ends the story: nobody knows where it is.
func (w *worker) life() {
	id, last := w.create("managed")
	for _, step := range []func() fate{
		func() fate { return w.command(id, "start", "started", "") },
		func() fate { return w.observe(id, "running") },
		func() fate {
			return w.command(id, "state", "state_updated", `{"patch": {"%s": 1}, "current_step": "%s"}`)
		},
		func() fate {
			return w.command(id, "wait", "waiting", `{"wait": {"kind": "manual", "details": {"%s": 1}}}`)
		},
		func() fate { return w.command(id, "resume", "resumed", `{"state_patch": {"%s": 1}}`) },
		func() fate { return w.end(id) },
	} {
		if last != made || w.stopped() {
			return
		}
		last = step()
	}
}

func (w *worker) end(id string) fate {
	switch rand.IntN(3) {
	case 0:
		return w.command(id, "finish", "finished", `{"final_state": {"%s": 1}}`)
	case 1:
		return w.command(id, "fail", "failed", `{"reason": "%s"}`)
	default:
		return w.command(id, "cancel", "cancelled", `{"reason": "%s"}`)
	}
}

func (w *worker) someHot() string { return w.load.hot[rand.IntN(hotFlows)] }

func (w *worker) patchHot() {
	w.command(w.someHot(), "state", "state_updated", `{"patch": {"%s": 1}}`)
}

func (w *worker) observeHot() { w.observe(w.someHot(), "succeeded") }

// mirror makes a flow in one commit of two events, and asks for its end, in one commit of two more.
func (w *worker) mirror() {
	if _, f := w.create("mirrored"); f != made {
		return
	}
	id, f := w.create("managed")
	if f != made {
		return
	}
	mark := w.mark()
	w.send(&request{
		method: http.MethodPost, path: "/flows/" + id + "/request-cancel", body: fmt.Sprintf(`{"reason": %q}`, mark), key: w.key(),
		effects: []effect{{flow: id, kind: "cancel_requested", mark: mark, revision: -1}, {flow: id, kind: "cancelled"}},
	})
}

// batchHot patches several flows in one request.
func (w *worker) batchHot() {
	r := &request{method: http.MethodPost, path: "/batch", key: w.key(), batch: true}
	var commands []string
	for range 1 + rand.IntN(5) {
		e := effect{flow: w.someHot(), kind: "state_updated", mark: w.mark()}
		r.effects = append(r.effects, e)
		commands = append(commands, fmt.Sprintf(`{"method": "POST", "path": "/flows/%s/state", "body": {"patch": {%q: 1}}}`, e.flow, e.mark))
	}
	r.body = `{"commands": [` + strings.Join(commands, ", ") + `]}`
	w.send(r)
}

// verify repeats what is unknown, reads everything back and fails the test for everything that is wrong. what is a word
// for what has happened.
func verify(t *testing.T, what string, c *servertest.Client, l *ledger) {
	t.Helper()
	repeated := l.repeatUnknown(c)
	s := l.takeSnapshot(t, c)
	found := append(s.check(), l.check(s)...)
	for i, wrong := range found {
		if i == 20 {
			t.Errorf("and %d more", len(found)-i)
			break
		}
		t.Error(wrong)
	}
	acknowledged, refused, unanswered := l.counts()
	t.Logf("%s: %d requests acknowledged, %d not made, %d left in doubt (%d repeated just now); %d flows and %d events agree with that",
		what, acknowledged, refused, unanswered, repeated, len(s.flows), len(s.seqs))
}
