package faults_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// TestSynced_SQLite watches the server's system calls: no change is acknowledged before what it wrote is synced.
func TestSynced_SQLite(t *testing.T) {
	path := realPath(t)
	s := servertest.Start(t, servertest.Options{Database: "sqlite:" + path})
	r := trace(t, s.PID(), sqliteOverHTTP(path))
	changeOneByOne(t, s.Client)
	if code, _ := s.Stop(); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
	r.await(t)
	if len(r.early) > 0 {
		t.Errorf("%d answers came too early: %v", len(r.early), r.early)
	}
	if r.answers < syncedChanges || r.writes < syncedChanges || r.syncs < syncedChanges {
		t.Errorf("%d answers, %d writes and %d syncs were seen, want %d of each", r.answers, r.writes, r.syncs, syncedChanges)
	}
	t.Logf("%d answers of success left the server, each after the sync of what it had written: %d writes, %d syncs", r.answers, r.writes, r.syncs)
}

// TestSynced_ControlSQLite has the same eyes look at a program that answers without a sync, and at one that syncs.
func TestSynced_ControlSQLite(t *testing.T) {
	for setting, synced := range map[string]bool{"OFF": false, "FULL": true} {
		t.Run(setting, func(t *testing.T) {
			path := realPath(t)
			stop, url, pid := startInserter(t, path, setting)
			c := servertest.NewClient(t, url)
			c.Call(t, http.StatusOK, http.MethodPost, "/", "") // makes the table
			r := trace(t, pid, sqliteOverHTTP(path))
			const inserts = 5
			for range inserts {
				c.Call(t, http.StatusOK, http.MethodPost, "/", "")
			}
			stop()
			r.await(t)
			if got := len(r.early); r.answers != inserts || synced != (got == 0) || !synced && got < inserts {
				t.Errorf("of %d answers %d are found to have come before their sync: %v", r.answers, got, r.early)
			}
			t.Logf("synchronous=%s: %d of %d answers came before their sync", setting, len(r.early), r.answers)
		})
	}
}

// TestSynced_PostgresInOrder watches the system calls of the processes of PostgreSQL that serve the server: none says that a
// commit is done before what it has written to the log is synced. The process that syncs the log for others is stopped, so each
// has to do it for itself. As the server answers a change once it has heard of its commit, that is before it is acknowledged.
// With synchronous_commit=off the same eyes see no sync.
func TestSynced_PostgresInOrder(t *testing.T) {
	for _, synchronous := range []string{"on", "off"} {
		t.Run("synchronous_commit="+synchronous, func(t *testing.T) {
			cluster := durableCluster(t, "synchronous_commit="+synchronous, "wal_sync_method=fdatasync", "wal_buffers=64MB", "autovacuum=off")
			s := servertest.Start(t, servertest.Options{Database: cluster.URL("postgres")})
			s.Create(t) // so that there is a connection for changes
			db := servertest.OpenDatabase(t, cluster.URL("postgres"))
			defer freezeProcess(t, db, walWriter)()
			var backends []*tracer
			for _, pid := range serving(t, db) {
				r, err := tryTrace(t, pid, watch{
					stored:  func(path string) bool { return strings.Contains(path, "/pg_wal/") },
					success: func(sent []byte) bool { return bytes.Contains(sent, []byte("C\x00\x00\x00\x0bCOMMIT\x00")) },
				})
				if errors.Is(err, fs.ErrPermission) { // PostgreSQL runs as somebody else: what it counts itself must do, in TestSynced_Postgres
					t.Logf("not watched: this process may not trace PostgreSQL: %v", err)
					return
				}
				if err != nil {
					t.Fatalf("tracing: %v", err)
				}
				backends = append(backends, r)
			}
			changeOneByOne(t, s.Client)
			if code, _ := s.Stop(); code != 0 {
				t.Errorf("the server ended with %d", code)
			}
			var early []string
			var commits, syncs int64
			for _, r := range backends {
				r.await(t)
				early, commits, syncs = append(early, r.early...), commits+r.answers, syncs+r.syncs
			}
			if synced := syncs >= syncedChanges && len(early) == 0; commits < syncedChanges || synced != (synchronous == "on") {
				t.Errorf("of %d commits %d were told before their sync, of which there were %d: %v", commits, len(early), syncs, early)
			}
			t.Logf("%d commits were told of, with %d syncs before them; %d came too early", commits, syncs, len(early))
		})
	}
}

// serving lists the processes of PostgreSQL that serve the server under test.
func serving(t *testing.T, db *sql.DB) (pids []int) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "select pid from pg_stat_activity where application_name = 'taskflow' and backend_type = 'client backend'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if err := rows.Err(); err != nil || len(pids) == 0 {
		t.Fatalf("the server is connected to no process: %v", err)
	}
	return pids
}

// realPath is where a database may be made, without symbolic links: as the kernel names it.
func realPath(t *testing.T) string {
	t.Helper()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "taskflow.db")
}

// await waits until the traced process has ended.
func (r *tracer) await(t *testing.T) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-r.ended:
	case <-timeout.C:
		t.Fatal("the traced process has not ended")
	}
	if r.err != nil {
		t.Fatalf("tracing: %v", r.err)
	}
}

const inserterVariable = "FAULTS_INSERTER" // synchronous=…, a space, and the path of a SQLite file

// startInserter runs TestInserter as a process of its own, below a shell, so that only the tracer waits for it.
func startInserter(t *testing.T, path, synchronous string) (stop func(), url string, pid int) {
	t.Helper()
	command := exec.Command("/bin/sh", "-c", `"$0" -test.run='^TestInserter$'; exit 0`, os.Args[0])
	command.Env = append(os.Environ(), inserterVariable+"="+synchronous+" "+path)
	leash, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = leash.Close()
		_ = command.Wait()
	}
	t.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("starting the control: %v", err)
	}
	if _, err := fmt.Sscan(line, &pid, &url); err != nil {
		t.Fatalf("the control says %q: %v", line, err)
	}
	return stop, url, pid
}

// TestInserter is that process: each request inserts a row. On its own it does nothing.
func TestInserter(t *testing.T) {
	synchronous, path, control := strings.Cut(os.Getenv(inserterVariable), " ")
	if !control {
		return
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous("+synchronous+")")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, statement := range []string{"create table if not exists rows (at text)", "insert into rows values ('" + strconv.Itoa(os.Getpid()) + "')"} {
			if _, err := db.ExecContext(r.Context(), statement); err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Close below
	fmt.Printf("%d http://%s\n", os.Getpid(), listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test lets go
	_ = server.Close()
	<-served
}
