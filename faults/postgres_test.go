package faults_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
)

// walWriter is the process of PostgreSQL that syncs what nobody waits for.
const walWriter = "select pid from pg_stat_activity where backend_type = 'walwriter'"

// again is how soon servers must serve after their database is back.
const again = 10 * time.Second

// durableCluster starts a PostgreSQL of the test's own, with fsync. settings are further ones, as name=value.
func durableCluster(t *testing.T, settings ...string) *pgtest.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o := pgtest.Options{Settings: map[string]string{}}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		o.Settings[name] = value
	}
	cluster, err := pgtest.StartCluster(ctx, o)
	if err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	stopAfter(t, cluster)
	return cluster
}

// stopAfter stops a cluster at the test's end.
func stopAfter(t *testing.T, cluster *pgtest.Cluster) {
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Errorf("stopping PostgreSQL: %v", err)
		}
	})
}

func start(t *testing.T, cluster *pgtest.Cluster) {
	t.Helper()
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatalf("starting PostgreSQL again: %v", err)
	}
}

func kill(t *testing.T, cluster *pgtest.Cluster) {
	t.Helper()
	if err := cluster.Kill(); err != nil {
		t.Fatalf("killing PostgreSQL: %v", err)
	}
}

// awaitUnavailable waits until a server's reads are answered with the problem unavailable, and looks at what else it says.
func awaitUnavailable(t *testing.T, s *servertest.Server, path string) {
	t.Helper()
	err := servertest.Await(t.Context(), patience, func() bool {
		answer, err := s.Send(http.MethodGet, path, "")
		if err != nil || answer.Status == http.StatusInternalServerError {
			t.Fatalf("GET %s without a database: %v, status %d: %s", path, err, answer.Status, answer.Body)
		}
		return answer.Status == http.StatusServiceUnavailable && answer.Problem() == "unavailable" && answer.Header.Get("Retry-After") != ""
	})
	if err != nil {
		t.Fatalf("GET %s is not answered with 503 without a database", path)
	}
	s.Call(t, http.StatusOK, http.MethodGet, "/livez", "")
	s.Call(t, http.StatusServiceUnavailable, http.MethodGet, "/readyz", "")
}

// TestKillPostgres kills the database under two servers in the middle of load.
func TestKillPostgres(t *testing.T) {
	t.Parallel()
	cluster := durableCluster(t)
	servers, l := startWithKeys(t, servertest.Options{Database: cluster.URL("postgres")}, 2)
	for round := range *rounds {
		load := startLoad(t, servers, l)
		load.awaitMore(50 + rand.IntN(200))
		kill(t, cluster)
		for _, s := range servers {
			awaitUnavailable(t, s, "/flows/"+load.hot[0])
			awaitUnavailable(t, s, "/events")
		}
		start(t, cluster)
		back := time.Now()
		for _, s := range servers {
			s.AwaitReady(again)
			if err := servertest.Await(t.Context(), again-time.Since(back), func() bool {
				answer, err := s.Send(http.MethodPost, "/flows", `{"controller_id": "c", "goal": "g", "owner_session_key": "again"}`)
				return err == nil && answer.Status == http.StatusCreated
			}); err != nil {
				t.Fatalf("a server takes no changes %v after its database is back", time.Since(back))
			}
		}
		t.Logf("both servers serve %v after the database is back", time.Since(back).Round(time.Millisecond))
		load.awaitMore(50)
		load.finish()
		verify(t, fmt.Sprintf("kill %d of PostgreSQL", round+1), servers[0].Client, l)
	}
	checkLogs(t, servers)
	wantMet(t, servers, l)
}

// wantMet holds that a kill of the database has met changes. One that is back soon costs no request its answer: the server
// asks what became of the commit, and says so.
func wantMet(t *testing.T, servers []*servertest.Server, l *ledger) {
	t.Helper()
	asked := slices.ContainsFunc(servers, func(s *servertest.Server) bool { return strings.Contains(s.Log(), "found out about the commit") })
	if _, notMade, unanswered := l.counts(); notMade+unanswered == 0 && !asked {
		t.Error("no kill has met a change: they came at quiet moments")
	}
}

// TestKillPostgres_Control shows that TestKillPostgres would find losses: with a PostgreSQL that acknowledges before it has
// written (synchronous_commit=off), and whose WAL writer is stopped, the same kill loses acknowledged changes. What is left
// is whole all the same: the trail equals the state.
func TestKillPostgres_Control(t *testing.T) {
	t.Parallel()
	cluster := durableCluster(t, "synchronous_commit=off", "wal_buffers=64MB", "autovacuum=off", "bgwriter_lru_maxpages=0", "checkpoint_timeout=1h")
	servers, l := startWithKeys(t, servertest.Options{Database: cluster.URL("postgres")}, 2)
	load := startLoad(t, servers, l)
	load.awaitMore(50)
	freezeProcess(t, servertest.OpenDatabase(t, cluster.URL("postgres")), walWriter)
	load.awaitMore(100)
	kill(t, cluster)
	start(t, cluster)
	for _, s := range servers {
		s.AwaitReady(again)
	}
	load.finish()
	wantLosses(t, "without synchronous commits", servers[0].Client, l)
}

// wantLosses holds that the checker finds acknowledged changes to be lost, and nothing that contradicts itself.
func wantLosses(t *testing.T, what string, c *servertest.Client, l *ledger) {
	t.Helper()
	inside, outside := find(t, c, l)
	lost := 0
	for _, wrong := range outside {
		if strings.HasPrefix(wrong, "an acknowledged change is lost") {
			lost++
		}
	}
	acknowledged, _, unanswered := l.counts()
	t.Logf("%s: %d requests acknowledged, %d left in doubt, %d acknowledged changes lost", what, acknowledged, unanswered, lost)
	if lost == 0 || len(inside) > 0 {
		t.Errorf("%s %d acknowledged changes are found lost, want some; the rest contradicts itself in %q, want nothing", what, lost, inside)
	}
}

// freezeProcess stops the process of a database that a query names, and returns how to let it go on.
func freezeProcess(t *testing.T, db *sql.DB, query string) (thaw func()) {
	t.Helper()
	var pid int
	if err := db.QueryRowContext(t.Context(), query).Scan(&pid); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatalf("stopping process %d: %v", pid, err)
	}
	return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
}

// TestPostgresComesLate starts a server before its database.
func TestPostgresComesLate(t *testing.T) {
	t.Parallel()
	cluster := durableCluster(t)
	kill(t, cluster)
	migrating := servertest.Launch(t, servertest.Options{Database: cluster.URL("postgres")})
	migrating.AwaitLog("waiting for the database")
	serving := servertest.Launch(t, servertest.Options{Database: cluster.URL("postgres"), Args: []string{"--no-auto-migrate"}})
	serving.AwaitAnswer()
	awaitUnavailable(t, serving, "/flows")
	start(t, cluster)
	back := time.Now()
	for _, s := range []*servertest.Server{migrating, serving} {
		s.AwaitReady(again)
		s.Create(t)
	}
	t.Logf("a server that waited for its database to migrate it, and one that left that to others, serve %v after it came",
		time.Since(back).Round(time.Millisecond))
}

// TestStopWithoutPostgres asks servers to stop while their database is away.
func TestStopWithoutPostgres(t *testing.T) {
	t.Parallel()
	cluster := durableCluster(t)
	o := servertest.Options{Database: cluster.URL("postgres")}
	servers := servertest.StartAll(t, o, 2)
	l := &ledger{}
	load := startLoad(t, servers, l)
	load.awaitMore(50)
	kill(t, cluster)
	waiting := servertest.Launch(t, o)
	waiting.AwaitLog("waiting for the database")
	asked := time.Now()
	for _, s := range append(servers, waiting) {
		s.Signal(syscall.SIGTERM)
	}
	for _, s := range append(servers, waiting) {
		if code := s.AwaitExit(patience); code != 0 || time.Since(asked) > 15*time.Second {
			t.Errorf("without its database a server took %v to stop, with code %d", time.Since(asked), code)
		}
	}
	load.finish()
	start(t, cluster)
	for _, s := range servers {
		s.Restart()
	}
	verify(t, "servers stopped without their database", servers[0].Client, l)
}
