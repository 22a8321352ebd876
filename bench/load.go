package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	crand "crypto/rand"

	"golang.org/x/sync/errgroup"
)

// This file runs a load: prepare flows, drive every connection in a closed loop for a while, add up, check.

// loadCommand is `bench load`.
type loadCommand struct {
	URL         string        `help:"Server to drive." default:"http://127.0.0.1:8080"`
	Scenario    string        `help:"What each connection does: ${enum}." enum:"${scenarios}" default:"state"`
	Connections int           `help:"Connections, each with one request at a time." default:"64" short:"c"`
	Duration    time.Duration `help:"How long is measured." default:"10s" short:"d"`
	Warmup      time.Duration `help:"How long runs before that, unmeasured." default:"2s"`
	Flows       int           `help:"Flows prepared beforehand; each request picks one at random." default:"1000"`
	Batch       int           `help:"Commands in a request of the batch scenario." default:"100"`
	StateBytes  int           `help:"How large the state of a prepared flow is, at least."`
	Also        []string      `help:"Further servers on the same database; the connections take turns." placeholder:"URL"`
	Procs       int           `help:"Cores the generator may use (GOMAXPROCS); the connections are shared out over them." default:"1"`
	JSON        string        `help:"Write the result to this file as JSON, - for standard output." name:"json" placeholder:"FILE"`
}

// Run drives the server once and prints what came out. Failed requests are in the result; only a run that could not
// be carried through, or whose count does not match the server's, is an error.
func (c *loadCommand) Run(ctx context.Context) error {
	runtime.GOMAXPROCS(c.Procs)
	result, err := runLoad(ctx, *c)
	if err != nil {
		return err
	}
	if c.JSON == "-" {
		return writeJSON(os.Stdout, result)
	}
	fmt.Println(result.line())
	if c.JSON != "" {
		return writeJSONFile(c.JSON, result)
	}
	return nil
}

// requestGrace is how long an answer may be outstanding past the end of a run before it counts as a transport error.
const requestGrace = 10 * time.Second

// runLoad runs one load from preparing the flows to checking their revisions.
func runLoad(ctx context.Context, c loadCommand) (loadResult, error) {
	kind, ok := findScenario(c.Scenario)
	if !ok {
		return loadResult{}, fmt.Errorf("no scenario %q", c.Scenario)
	}
	hosts, err := hostsOf(append([]string{c.URL}, c.Also...))
	if err != nil {
		return loadResult{}, err
	}
	if c.Connections < 1 || c.Flows < 1 || c.Batch < 1 || c.Duration <= 0 || c.Warmup < 0 {
		return loadResult{}, errors.New("connections, flows, batch and duration must be positive")
	}
	if kind.oneFlow {
		c.Flows = 1
	}
	if !kind.prepared {
		c.Flows = 0
	}
	if !kind.batched {
		c.Batch = 1
	}
	var flows []preparedFlow
	if kind.prepared {
		if flows, err = prepareFlows(ctx, hosts[0], c.Flows, createBodyOf(c.StateBytes)); err != nil {
			return loadResult{}, fmt.Errorf("preparing %d flows: %w", c.Flows, err)
		}
	}
	total, cores, err := drive(ctx, hosts, kind, c, flows)
	if err != nil {
		return loadResult{}, err
	}
	if kind.prepared {
		if err := checkRevisions(ctx, hosts[0], flows, total); err != nil {
			return loadResult{}, err
		}
	}
	return newLoadResult(c, total, cores), nil
}

// hostsOf are the host and port of each URL.
func hostsOf(urls []string) ([]string, error) {
	var hosts []string
	for _, text := range urls {
		target, err := url.Parse(text)
		if err != nil || target.Scheme != "http" || target.Port() == "" {
			return nil, fmt.Errorf("url %q is not http://host:port", text)
		}
		hosts = append(hosts, target.Host)
	}
	return hosts, nil
}

// drive runs every connection's loop, shared out over the cores that the generator may use, and returns the sum of their
// counts, and how many cores the generator used.
func drive(ctx context.Context, hosts []string, kind scenario, c loadCommand, flows []preparedFlow) (*tally, float64, error) {
	group, ctx := errgroup.WithContext(ctx)
	prefix := crand.Text()
	began, cpu := time.Now(), cpuTime()
	window := newWindow(began, c.Warmup, c.Duration)
	deadline := window.until.Add(requestGrace)
	workers := make([]*worker, c.Connections)
	for i := range workers {
		workers[i] = &worker{
			conn:   newHTTPConn(hosts[i%len(hosts)], deadline),
			random: rand.New(rand.NewPCG(uint64(i), uint64(began.UnixNano()))),
			flows:  flows, batch: c.Batch, window: window, tally: newTally(),
			keyPrefix: fmt.Sprintf("%s-%d-", prefix, i),
		}
	}
	procs := max(c.Procs, 1)
	for share := range slices.Chunk(workers, (len(workers)+procs-1)/procs) {
		group.Go(func() error { return runWorkers(ctx, share, kind, deadline) })
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	cores := (cpuTime() - cpu).Seconds() / time.Since(began).Seconds()
	total := newTally()
	for _, w := range workers {
		total.add(w.tally)
	}
	return total, cores, nil
}

// worker is one connection and its loop.
type worker struct {
	conn      *httpConn
	random    *rand.Rand
	flows     []preparedFlow
	batch     int // changes that one request asks for
	window    window
	tally     *tally
	keyPrefix string
	serial    int
	body      []byte
	inWindow  bool // the last answer came inside the window
	broken    int  // transport errors in a row
}

// maxBroken transport errors in a row end the run: nobody is listening, and a loop of failing dials measures nothing.
const maxBroken = 10

func (w *worker) loop(ctx context.Context, kind scenario) error {
	defer w.conn.close()
	for time.Now().Before(w.window.until) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := kind.turn(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// call sends one request, counts it, and says whether the answer had the wanted status. It returns an error only where
// the run cannot go on.
func (w *worker) call(ctx context.Context, r request, want int) (body []byte, ok bool, err error) {
	start := time.Now()
	answer, err := w.conn.do(ctx, r)
	end := time.Now()
	w.inWindow = w.window.holds(end)
	if err != nil {
		w.tally.transport++
		w.tally.unknown += int64(w.batch)
		if w.broken++; w.broken == maxBroken || ctx.Err() != nil {
			return nil, false, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
		return nil, false, nil
	}
	w.broken = 0
	if answer.status != want {
		w.refused(answer.status)
		return nil, false, nil
	}
	w.tally.answered(w.window.holds(start), w.inWindow, answer.status, end.Sub(start))
	return answer.body, true, nil
}

// accepted counts n changes that the last answer confirmed.
func (w *worker) accepted(n int) {
	w.tally.accepted += int64(n)
	if w.inWindow {
		w.tally.changes += int64(n)
	}
}

// refused counts an answer with another status than the wanted one, wherever in the run it came. After a 5xx the
// effect is unknown.
func (w *worker) refused(status int) {
	w.tally.statuses[status]++
	w.tally.failures++
	if status >= http.StatusInternalServerError {
		w.tally.unknown += int64(w.batch)
	}
}

// failed counts as a failure an answer that looked well and was not. Its latency stays in the histogram.
func (w *worker) failed() { w.tally.failures++ }

func (w *worker) pick() preparedFlow { return w.flows[w.random.IntN(len(w.flows))] }

func (w *worker) freshKey() string {
	w.serial++
	return w.keyPrefix + strconv.Itoa(w.serial)
}

// prepareConnections share the work of creating flows; it is not measured.
const prepareConnections = 32

// prepareFlows creates and starts n flows.
func prepareFlows(ctx context.Context, host string, n int, create []byte) ([]preparedFlow, error) {
	group, ctx := errgroup.WithContext(ctx)
	flows := make([]preparedFlow, n)
	for first := range min(n, prepareConnections) {
		group.Go(func() error {
			conn := newHTTPConn(host, time.Now().Add(time.Minute))
			defer conn.close()
			for i := first; i < n; i += prepareConnections {
				id, err := startFlow(ctx, conn, create)
				if err != nil {
					return err
				}
				flows[i] = newPreparedFlow(id)
			}
			return nil
		})
	}
	return flows, group.Wait()
}

// startFlow creates one flow and starts it, which brings it to revision 1.
func startFlow(ctx context.Context, conn *httpConn, create []byte) (id string, err error) {
	body, err := conn.expect(ctx, request{method: "POST", path: "/flows", body: create}, http.StatusCreated)
	if err != nil {
		return "", err
	}
	if id, err = flowID(body); err != nil {
		return "", err
	}
	_, err = conn.expect(ctx, request{method: "POST", path: "/flows/" + id + "/start"}, http.StatusOK)
	return id, err
}

// expect is do, with any other status than the wanted one as an error.
func (c *httpConn) expect(ctx context.Context, r request, want int) ([]byte, error) {
	answer, err := c.do(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	if answer.status != want {
		return nil, fmt.Errorf("%s %s: status %d, want %d: %.200s", r.method, r.path, answer.status, want, answer.body)
	}
	return answer.body, nil
}

func flowID(body []byte) (string, error) {
	var flow struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(body, &flow); err != nil {
		return "", fmt.Errorf("reading a flow: %w", err)
	}
	if flow.ID == "" {
		return "", fmt.Errorf("%w: a flow without an id", errMalformed)
	}
	return flow.ID, nil
}

// checkRevisions reads every prepared flow again. Its revision was 1 when the run began and rises by one with each
// change, so the sum must have risen by exactly what was answered with success: a server that answers 200 and changes
// nothing, or changes twice, has no figure. Changes of unknown outcome leave that much room.
func checkRevisions(ctx context.Context, host string, flows []preparedFlow, total *tally) error {
	conn := newHTTPConn(host, time.Now().Add(time.Minute))
	defer conn.close()
	rise := int64(0)
	for _, flow := range flows {
		body, err := conn.expect(ctx, request{method: "GET", path: flow.path}, http.StatusOK)
		if err != nil {
			return fmt.Errorf("checking revisions: %w", err)
		}
		var got struct {
			Revision *int64 `json:"revision"`
		}
		if err := json.Unmarshal(body, &got); err != nil || got.Revision == nil {
			return fmt.Errorf("checking revisions: %w: %.200s", errMalformed, body)
		}
		rise += *got.Revision - 1
	}
	if rise < total.accepted || rise > total.accepted+total.unknown {
		return fmt.Errorf("the flows' revisions rose by %d, but %d changes were answered with success (%d unknown)",
			rise, total.accepted, total.unknown)
	}
	return nil
}

// cpuTime is the processor time this process has used, user and system.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
