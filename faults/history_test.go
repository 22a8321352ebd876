package faults_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"taskflow/internal/servertest"

	"github.com/anishathalye/porcupine"
)

// This file records what clients of one flow ask for and are told, with the times of both, and has porcupine look for
// an order in which one flow that nobody else touches would have answered the same. Where there is one, what the servers
// promise of a flow held through all their deaths: a read shows every change that was acknowledged before it began.

const (
	observers    = 6           // clients of a history
	decidedAfter = time.Minute // for porcupine to find an order, or that there is none
	noRevision   = -1
	unansweredAt = int64(math.MaxInt64)
)

// asked is one request about the flow of a history.
type asked struct {
	kind askedKind
	// value is what a change writes; each has its own.
	value int
	// expected is what a change's If-Match names; noRevision where it has none.
	expected int64
}

type askedKind string

const (
	read      askedKind = "read"   // GET the flow: its revision and value
	readTrail askedKind = "trail"  // GET the newest event of its trail: its revision
	change    askedKind = "change" // POST a patch with a new value
)

// told is the answer. Where unknown is set there was none, or one that says so; where unsent is, nothing was changed and
// nothing was learnt.
type told struct {
	unknown  bool
	unsent   bool
	conflict bool  // a change was refused; revision is then the actual one
	revision int64 // after the request
	value    int   // of a read
}

// register is what a flow is to a history: a value with a revision.
type register struct {
	revision int64
	value    int
}

// flowModel says what a flow may answer, and what it is afterwards. A change whose outcome is unknown has happened, or not.
var flowModel = porcupine.NondeterministicModel{
	Init:  func() []any { return []any{register{}} },
	Step:  func(state, input, output any) []any { return step(state.(register), input.(asked), output.(told)) },
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v: %+v", input, output)
	},
}

func step(now register, in asked, out told) []any {
	next := register{now.revision + 1, in.value}
	applies := in.expected == noRevision || in.expected == now.revision
	switch {
	case in.kind == read && out == told{revision: now.revision, value: now.value}:
		return []any{now}
	case in.kind == readTrail && out == told{revision: now.revision}:
		return []any{now}
	case in.kind != change:
		return nil
	case out.unknown && applies:
		return []any{now, next}
	case out.unknown, out.conflict && !applies && out.revision == now.revision:
		return []any{now}
	case !out.conflict && applies && out.revision == next.revision:
		return []any{next}
	}
	return nil
}

// history is what happened to one flow. It is safe for concurrent use.
type history struct {
	began time.Time
	mu    sync.Mutex
	// operations are those that porcupine judges: a read without an answer says nothing and is left out.
	operations []porcupine.Operation
	odd        []string // answers that should never be given
	values     int      // handed out so far
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) newValue() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.values++
	return h.values
}

func (h *history) add(client int, in asked, out told, called, answered int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.unsent || out.unknown && in.kind != change {
		return
	}
	if out.unknown {
		answered = unansweredAt // it may take effect at any later time, for all that the client knows
	}
	h.operations = append(h.operations, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: called, Return: answered})
}

// counts are the answered operations, the conflicts among them, and the changes in doubt.
func (h *history) counts() (answered, conflicts, doubtful int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.operations {
		switch out := o.Output.(told); {
		case out.unknown:
			doubtful++
		case out.conflict:
			conflicts++
			fallthrough
		default:
			answered++
		}
	}
	return answered, conflicts, doubtful
}

// observer is one client of a history.
type observer struct {
	history *history
	id      int
	flow    string
	servers []*servertest.Server
	seen    int64 // the revision it saw last
}

// work sends requests to all servers in turn until it is stopped.
func (o *observer) work(stop <-chan struct{}) {
	for turn := o.id; ; turn++ {
		in := asked{kind: read, expected: noRevision}
		switch rand.IntN(6) {
		case 0:
			in.kind = readTrail
		case 1, 2:
			in.kind, in.value = change, o.history.newValue()
		case 3, 4:
			in.kind, in.value, in.expected = change, o.history.newValue(), o.seen
		}
		called := o.history.now()
		out := o.send(o.servers[turn%len(o.servers)], in)
		o.history.add(o.id, in, out, called, o.history.now())
		wait := rand.N(4 * time.Millisecond)
		if out.unknown || out.unsent {
			wait += afterFail
		} else {
			o.seen = out.revision
		}
		pause := time.NewTimer(wait)
		select {
		case <-stop:
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// send sends a request and reads what it is told.
func (o *observer) send(s *servertest.Server, in asked) told {
	var answer servertest.Answer
	var err error
	path := "/flows/" + o.flow
	switch {
	case in.kind == read:
		answer, err = s.Send(http.MethodGet, path, "")
	case in.kind == readTrail:
		answer, err = s.Send(http.MethodGet, path+"/events?order=-seq&limit=1", "")
	case in.expected == noRevision:
		answer, err = s.Send(http.MethodPost, path+"/state", fmt.Sprintf(`{"patch": {"value": %d}}`, in.value))
	default:
		answer, err = s.Send(http.MethodPost, path+"/state", fmt.Sprintf(`{"patch": {"value": %d}}`, in.value),
			"If-Match", strconv.Quote(strconv.FormatInt(in.expected, 10)))
	}
	var network *net.OpError
	switch {
	case errors.As(err, &network) && network.Op == "dial":
		return told{unsent: true}
	case err != nil:
		return told{unknown: true}
	}
	out, err := in.understand(answer)
	if err != nil {
		o.history.mu.Lock()
		defer o.history.mu.Unlock()
		o.history.odd = append(o.history.odd, fmt.Sprintf("%+v was answered with %d: %v: %s", in, answer.Status, err, answer.Body))
		return told{unknown: true}
	}
	return out
}

func (in asked) understand(answer servertest.Answer) (told, error) {
	var body struct {
		Revision int64
		Actual   int64
		Unknown  bool `json:"outcome_unknown"`
		State    struct{ Value int }
		Items    []struct{ Revision int64 }
	}
	if err := answer.Decode(&body); err != nil {
		return told{}, err
	}
	switch {
	case answer.Problem() == "unavailable":
		return told{unknown: body.Unknown, unsent: !body.Unknown}, nil
	case in.kind == change && answer.Problem() == "revision-conflict":
		return told{conflict: true, revision: body.Actual}, nil
	case answer.Status != http.StatusOK:
		return told{}, fmt.Errorf("nothing here calls for that")
	case in.kind == readTrail && len(body.Items) != 1:
		return told{}, fmt.Errorf("want one event")
	case in.kind == readTrail:
		return told{revision: body.Items[0].Revision}, nil
	case in.kind == read:
		return told{revision: body.Revision, value: body.State.Value}, nil
	}
	return told{revision: body.Revision}, nil
}

// startHistory has clients work on a new flow until the function it returns is called, which waits for them.
func startHistory(t *testing.T, servers []*servertest.Server) (h *history, finish func()) {
	t.Helper()
	id := servers[0].Create(t, `"state": {"value": 0}`).ID
	h = &history{began: time.Now()}
	stop := make(chan struct{})
	var working sync.WaitGroup
	for i := range observers {
		o := &observer{history: h, id: i, flow: id, servers: servers}
		working.Go(func() { o.work(stop) })
	}
	finish = sync.OnceFunc(func() {
		close(stop)
		working.Wait()
	})
	t.Cleanup(finish) // where the test gives up half-way
	return h, finish
}

func (h *history) awaitMore(t *testing.T, n int) {
	t.Helper()
	before, _, _ := h.counts()
	err := servertest.Await(t.Context(), patience, func() bool {
		answered, _, _ := h.counts()
		return answered >= before+n
	})
	if err != nil {
		t.Fatalf("%d more requests were not answered within %v: %v", n, patience, h.odd)
	}
}

// TestHistory_Linearizable kills servers in the middle of concurrent reads, changes and changes with If-Match of one flow,
// and wants everything that clients were told to follow from one order of what they asked for.
func TestHistory_Linearizable(t *testing.T) {
	servertest.Databases(t, func(t *testing.T, url string, n int) {
		servers := servertest.StartAll(t, servertest.Options{Database: url}, n)
		inDoubt := 0
		for round := range *rounds {
			h, finish := startHistory(t, servers)
			h.awaitMore(t, 100+rand.IntN(100))
			victim := servers[round%n]
			victim.Kill() // once a history: each change in doubt doubles the orders there are
			victim.Restart()
			h.awaitMore(t, 100)
			finish()
			h.judge(t, round)
			_, _, doubtful := h.counts()
			inDoubt += doubtful
		}
		if inDoubt == 0 {
			t.Error("no kill has left a change in doubt: they came at quiet moments")
		}
		checkLogs(t, servers)
	})
}

// judge fails the test where the history has no order, and where the checker would not have found a stale read in it.
func (h *history) judge(t *testing.T, round int) {
	t.Helper()
	for _, odd := range h.odd {
		t.Error(odd)
	}
	began := time.Now()
	if got := judged(h.operations); got != porcupine.Ok {
		t.Fatalf("history %d of %d operations is not linearizable (%s)", round+1, len(h.operations), got)
	}
	took := time.Since(began)
	answered, conflicts, doubtful := h.counts()
	if conflicts == 0 {
		t.Error("no change met another revision: that was no contest")
	}
	for name, plant := range map[string]func([]porcupine.Operation) bool{"a stale read": plantStaleRead, "a lost change": plantLostChange} {
		planted := slices.Clone(h.operations)
		if !plant(planted) {
			t.Fatalf("history %d has no place for %s", round+1, name)
		}
		if got := judged(planted); got != porcupine.Illegal {
			t.Errorf("%s was planted in history %d, which is judged %s", name, round+1, got)
		}
	}
	t.Logf("history %d: %d requests answered (%d conflicts), %d changes in doubt; linearizable, found in %v; a stale read and a lost change, planted, are found",
		round+1, answered, conflicts, doubtful, took.Round(time.Millisecond))
}

func judged(operations []porcupine.Operation) porcupine.CheckResult {
	model := flowModel.ToModel()
	return porcupine.CheckOperationsTimeout(model, operations, decidedAfter)
}

// plantStaleRead has a read answered with what the flow was before a change that was acknowledged before the read began. It
// takes the first that it finds: until a change is in doubt, few orders have to be tried to know that there is none.
func plantStaleRead(operations []porcupine.Operation) bool {
	for i, late := range operations {
		if late.Input.(asked).kind != read {
			continue
		}
		for _, old := range operations {
			if old.Input.(asked).kind == read && old.Return < late.Call && old.Output.(told).revision < late.Output.(told).revision &&
				acknowledgedBetween(operations, old, late) {
				operations[i].Output = old.Output
				return true
			}
		}
	}
	return false
}

func acknowledgedBetween(operations []porcupine.Operation, old, late porcupine.Operation) bool {
	return slices.ContainsFunc(operations, func(o porcupine.Operation) bool {
		out := o.Output.(told)
		return o.Input.(asked).kind == change && !out.unknown && !out.conflict && o.Call > old.Return && o.Return < late.Call
	})
}

// plantLostChange has a change that was refused for its If-Match have been made, on top of the revision it names.
func plantLostChange(operations []porcupine.Operation) bool {
	for i, o := range operations {
		in, out := o.Input.(asked), o.Output.(told)
		if in.kind == change && out.conflict && out.revision > in.expected {
			operations[i].Output = told{revision: in.expected + 1}
			return true
		}
	}
	return false
}

// TestHistory_Model checks the model against histories that need no server.
func TestHistory_Model(t *testing.T) {
	patch := func(value int, expected int64) asked { return asked{change, value, expected} }
	get := asked{kind: read, expected: noRevision}
	for name, c := range map[string]struct {
		operations []porcupine.Operation
		want       porcupine.CheckResult
	}{
		"one after the other": {sequence(patch(1, noRevision), told{revision: 1}, get, told{revision: 1, value: 1}), porcupine.Ok},
		"a stale read":        {sequence(patch(1, noRevision), told{revision: 1}, get, told{}), porcupine.Illegal},
		"a revision skipped":  {sequence(patch(1, noRevision), told{revision: 2}), porcupine.Illegal},
		"two of one revision": {sequence(patch(1, 0), told{revision: 1}, patch(2, 0), told{revision: 1}), porcupine.Illegal},
		"refused as it should be": {sequence(patch(1, 0), told{revision: 1}, patch(2, 0), told{conflict: true, revision: 1},
			get, told{revision: 1, value: 1}), porcupine.Ok},
		"refused for nothing":        {sequence(patch(1, 0), told{conflict: true, revision: 0}), porcupine.Illegal},
		"in doubt, and made":         {sequence(patch(1, 0), told{unknown: true}, get, told{revision: 1, value: 1}), porcupine.Ok},
		"in doubt, and not made":     {sequence(patch(1, 0), told{unknown: true}, get, told{}), porcupine.Ok},
		"in doubt, and made later":   {sequence(patch(1, 0), told{unknown: true}, get, told{}, get, told{revision: 1, value: 1}), porcupine.Ok},
		"in doubt, made and undone":  {sequence(patch(1, 0), told{unknown: true}, get, told{revision: 1, value: 1}, get, told{}), porcupine.Illegal},
		"in doubt, and another's":    {sequence(patch(1, 0), told{unknown: true}, get, told{revision: 1, value: 2}), porcupine.Illegal},
		"the trail behind the flow":  {sequence(patch(1, 0), told{revision: 1}, asked{kind: readTrail, expected: noRevision}, told{}), porcupine.Illegal},
		"the trail with the flow":    {sequence(patch(1, 0), told{revision: 1}, asked{kind: readTrail, expected: noRevision}, told{revision: 1}), porcupine.Ok},
		"refused, naming what's not": {sequence(patch(1, 5), told{conflict: true, revision: 3}), porcupine.Illegal},
	} {
		if got := judged(c.operations); got != c.want {
			t.Errorf("%s is judged %s, want %s", name, got, c.want)
		}
	}
}

// sequence is a history of requests one after the other: pairs of what was asked and what was told.
func sequence(pairs ...any) []porcupine.Operation {
	h := &history{}
	for i := 0; i < len(pairs); i += 2 {
		h.add(i, pairs[i].(asked), pairs[i+1].(told), int64(10*i), int64(10*i+5))
	}
	return h.operations
}
