package faults_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
)

// stopLimit is how long a server may take to stop.
const stopLimit = 15 * time.Second

// terminate asks a server to stop and checks how it does.
func terminate(t *testing.T, s *servertest.Server) time.Duration {
	t.Helper()
	asked := time.Now()
	s.Signal(syscall.SIGTERM)
	code, took := s.AwaitExit(patience), time.Since(asked)
	if code != 0 || took > stopLimit {
		t.Errorf("a server took %v to stop, with code %d", took, code)
	}
	return took
}

// outage is from when a server was asked to stop until it was there again.
type outage struct{ from, to time.Time }

// restart stops a server and starts it again.
func restart(t *testing.T, s *servertest.Server, meanwhile func()) (o outage, took time.Duration) {
	t.Helper()
	o.from = time.Now()
	took = terminate(t, s)
	meanwhile()
	s.Restart()
	o.to = time.Now()
	return o, took
}

// unexplained lists what went wrong other than by a server that stops: it refuses connections while it is down, ends those
// that are idle, of which a client may have just begun to use one, and says so where it answers. A request that it has begun to
// answer is answered whole.
func (l *ledger) unexplained(outages []outage) (found []string, explained int) {
	const slack = time.Second // until a client of a busy machine has noted what it was told
	for _, r := range l.requests {
		for _, x := range r.troubles {
			during := slices.ContainsFunc(outages, func(o outage) bool { return x.at.After(o.from) && x.at.Before(o.to.Add(slack)) })
			if during && (x.err != nil && (neverSent(x.err) || connectionEnded(x.err)) || strings.Contains(x.detail, "shutting down")) {
				explained++
				continue
			}
			found = append(found, fmt.Sprintf("%s %s at %v: %v %s", r.method, r.path, x.at.UTC(), x.err, x.detail))
		}
	}
	return found, explained
}

// connectionEnded reports whether a connection ended before anything of an answer came.
func connectionEnded(err error) bool {
	if errors.Is(err, servertest.ErrHalfAnswer) {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "server closed idle connection") // of which net/http tells by its text alone
}

// wantExplained fails the test for each request that failed for another reason than that its server stopped.
func wantExplained(t *testing.T, l *ledger, outages []outage) {
	t.Helper()
	found, explained := l.unexplained(outages)
	for _, wrong := range found[:min(len(found), 20)] {
		t.Errorf("failed, and no server was stopping: %s", wrong)
	}
	t.Logf("%d failures, of which %d are explained by a server that stops", explained+len(found), explained)
}

// TestTerminateServer stops servers under load: whatever they have taken on is answered, and what is acknowledged is there.
// Busy connections are told that they end, so next to no request meets the end of one, and is left in doubt.
func TestTerminateServer(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, n int) {
		servers, l := startWithKeys(t, servertest.Options{Database: url}, n)
		var outages []outage
		for round := range *rounds {
			load := startLoad(t, servers, l)
			load.awaitMore(50 + rand.IntN(200))
			victim := servers[round%n]
			_, _, before := l.counts()
			stop, took := restart(t, victim, func() {})
			outages = append(outages, stop)
			load.awaitMore(50)
			load.finish()
			if _, _, unanswered := l.counts(); unanswered-before > workers/3 {
				t.Errorf("%d requests were left without an answer", unanswered-before)
			}
			verify(t, fmt.Sprintf("stop %d of a server, in %v", round+1, took.Round(time.Millisecond)), victim.Client, l)
		}
		wantExplained(t, l, outages)
		checkLogs(t, servers)
	})
}

// TestRollingRestart restarts three replicas one after the other under the load of clients that repeat at another replica
// what got no answer or was not made. Nothing fails for good, nothing is lost and nothing is made twice.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	servers, l := startWithKeys(t, servertest.Options{Database: pgtest.Empty(t)}, 3)
	load := startLoadOf(t, servers, l, true)
	load.awaitMore(50)
	var outages []outage
	for range max(1, *rounds/3) {
		for _, s := range servers {
			stop, _ := restart(t, s, func() { load.awaitMore(20) }) // the others go on
			outages = append(outages, stop)
			load.awaitMore(50)
		}
	}
	load.finish()
	for _, r := range l.requests {
		if r.key != "" && r.effects[0].fate != made {
			t.Errorf("%s %s was not made in the end, after %v", r.method, r.path, r.troubles)
		}
	}
	wantExplained(t, l, outages)
	verify(t, fmt.Sprintf("%d restarts, %d requests repeated elsewhere", len(outages), l.repeats), servers[0].Client, l)
	checkLogs(t, servers)
}
