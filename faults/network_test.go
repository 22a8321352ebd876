package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// deadline is when every request is answered at the latest: 30 s, and what a busy machine adds.
const deadline = 32 * time.Second

// wire is the network between servers and their database.
type wire struct {
	t       *testing.T
	proxy   *toxiproxy.Proxy
	cluster *pgtest.Cluster
	servers []*servertest.Server
}

// newWire starts a database, a proxy before it and two servers that reach it through that alone.
func newWire(t *testing.T) *wire {
	t.Helper()
	address := servertest.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // a toxic logs past the logger it is given
	w := &wire{t: t, cluster: durableCluster(t, "listen_addresses=127.0.0.1", "port="+port)}
	w.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "database", servertest.FreeAddress(t), address)
	if err := w.proxy.Start(); err != nil {
		t.Fatalf("starting the proxy: %v", err)
	}
	t.Cleanup(w.proxy.Stop)
	through := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: w.proxy.Listen, Path: "/postgres", RawQuery: "sslmode=disable"}
	w.servers = servertest.StartAll(t, servertest.Options{Database: through.String()}, 2)
	return w
}

// poison adds toxics, as toxiproxy's JSON.
func (w *wire) poison(toxics ...string) {
	w.t.Helper()
	for _, toxic := range toxics {
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			w.t.Fatalf("toxic %s: %v", toxic, err)
		}
	}
}

// heal removes all toxics.
func (w *wire) heal() { w.proxy.Toxics.ResetToxics(w.t.Context()) }

// both is a toxic for both directions.
func both(kind, attributes string) []string {
	var toxics []string
	for _, direction := range []string{"upstream", "downstream"} {
		toxics = append(toxics, fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": {%s}}`, kind, direction, attributes))
	}
	return toxics
}

// awaitService waits until every server takes changes again.
func awaitService(t *testing.T, servers []*servertest.Server, limit time.Duration) {
	t.Helper()
	for _, s := range servers {
		if err := servertest.Await(t.Context(), limit, func() bool {
			answer, err := s.Send(http.MethodPost, "/flows", `{"controller_id": "c", "goal": "g", "owner_session_key": "again"}`)
			return err == nil && answer.Status == http.StatusCreated
		}); err != nil {
			t.Fatalf("a server takes no changes %v after the fault", limit)
		}
	}
}

// finish ends the load and checks what came of it, and that each request ended by its deadline.
func (w *wire) finish(what string, load *load) {
	w.t.Helper()
	load.finish()
	verify(w.t, what, w.servers[0].Client, load.ledger)
	checkLogs(w.t, w.servers)
	if load.ledger.slowest > deadline {
		w.t.Errorf("%s: a request took %v, want %v at most", what, load.ledger.slowest, deadline)
	}
	w.t.Logf("%s: the slowest request took %v", what, load.ledger.slowest.Round(time.Millisecond))
}

// TestNetwork_Slow has a network that is slow, one that is thin, and one that does both, in pieces: changes go on.
func TestNetwork_Slow(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	l := &ledger{}
	for name, toxics := range map[string][]string{
		"latency":   both("latency", `"latency": 50, "jitter": 40`),
		"bandwidth": both("bandwidth", `"rate": 50`), // KB/s
		"pieces":    both("slicer", `"average_size": 100, "size_variation": 90, "delay": 100`),
	} {
		load := startLoad(t, w.servers, l)
		load.awaitMore(20)
		w.poison(toxics...)
		load.awaitMore(20 * *rounds)
		w.heal()
		w.finish(name, load)
	}
	if _, refused, unanswered := l.counts(); refused+unanswered > 0 {
		t.Errorf("a slow network cost %d requests their change and %d their answer", refused, unanswered)
	}
}

// TestNetwork_Resets has connections reset, again and again, each after another time.
func TestNetwork_Resets(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	load := startLoad(t, w.servers, &ledger{})
	for range *rounds {
		load.awaitMore(30)
		w.poison(both("reset_peer", fmt.Sprintf(`"timeout": %d`, rand.IntN(50)))...)
		awaitUnavailable(t, w.servers[0], "/flows/"+load.hot[0])
		w.heal()
		awaitService(t, w.servers, again)
	}
	w.finish(fmt.Sprintf("%d times resets", *rounds), load)
}

// TestNetwork_Cuts ends connections after so many bytes, in the middle of whatever they were at: a commit that was half
// sent, or whose answer was half received.
func TestNetwork_Cuts(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	load := startLoad(t, w.servers, &ledger{})
	for range *rounds {
		for _, direction := range []string{"upstream", "downstream"} {
			load.awaitMore(30)
			before := w.settled()
			w.poison(fmt.Sprintf(`{"type": "limit_data", "stream": %q, "attributes": {"bytes": %d}}`, direction, 3000+rand.IntN(20000)))
			if err := servertest.Await(t.Context(), patience, func() bool { return w.settled() > before }); err != nil {
				t.Fatalf("no commit was cut %s within %v", direction, patience)
			}
			w.heal()
			awaitService(t, w.servers, again)
		}
	}
	w.finish(fmt.Sprintf("%d rounds of cuts, %d of them in the middle of a commit", *rounds, w.settled()), load)
}

// settled counts the commits whose answer was lost.
func (w *wire) settled() (n int) {
	for _, s := range w.servers {
		n += strings.Count(s.Log(), "a commit is in doubt")
	}
	return n
}

// TestNetwork_BlackHole has the network swallow everything and keep every connection open, for longer than a request may
// take. Every request ends by its deadline, and says what it does not know.
func TestNetwork_BlackHole(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	load := startLoad(t, w.servers, &ledger{})
	load.awaitMore(50)
	_, refused, unanswered := load.ledger.counts()
	w.poison(both("timeout", `"timeout": 0`)...)
	began := time.Now()
	if err := servertest.Await(t.Context(), deadline+again, func() bool {
		_, r, u := load.ledger.counts()
		return r+u-refused-unanswered >= workers
	}); err != nil {
		t.Fatalf("requests are not answered %v after the network went silent", time.Since(began))
	}
	for _, s := range w.servers {
		s.Call(t, http.StatusOK, http.MethodGet, "/livez", "")
		s.Call(t, http.StatusServiceUnavailable, http.MethodGet, "/readyz", "")
	}
	w.heal()
	awaitService(t, w.servers, deadline)
	t.Logf("the network was silent for %v", time.Since(began).Round(time.Second))
	load.awaitMore(50)
	w.finish("a black hole", load)
	if _, _, u := load.ledger.counts(); u == unanswered {
		t.Error("no request was left in doubt: the network went silent at a quiet moment")
	}
}
