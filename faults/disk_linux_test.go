package faults_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"taskflow/internal/servertest"

	"golang.org/x/sys/unix"
)

// disk is where a database lives, and what takes its room away and gives it back.
type disk struct {
	servers    []*servertest.Server
	fill, free func()
}

// TestDiskFull takes a database's room away under load. Changes are refused with 503 and nothing of them is there, reads go
// on, and as soon as there is room again so do changes, unaided.
//
// A small file system of the test's own is what comes closest, but takes the right to mount one. What takes no right is
// tested always: for SQLite a limit on the size of the server's files, which fails writes likewise, and for PostgreSQL a
// trigger that says what PostgreSQL says when its disk is full.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	t.Run("sqlite, file size", func(t *testing.T) { fullDisk(t, limitedSQLite(t)) })
	t.Run("postgres, its answer", func(t *testing.T) { fullDisk(t, answeringPostgres(t)) })
	if folder, mounted := mount(t, "64m"); mounted { // SQLite's log alone takes 16 MiB before it is folded into the file
		t.Run("sqlite, file system", func(t *testing.T) { fullDisk(t, mountedSQLite(t, folder)) })
	}
	if folder, mounted := mount(t, "64m"); mounted {
		t.Run("postgres, file system", func(t *testing.T) { fullDisk(t, mountedPostgres(t, folder)) })
	}
}

func fullDisk(t *testing.T, d disk) {
	l := &ledger{}
	for range max(1, *rounds/3) {
		load := startLoad(t, d.servers, l)
		load.awaitMore(50)
		_, refused, unanswered := l.counts()
		d.fill()
		if err := servertest.Await(t.Context(), patience, func() bool {
			_, r, u := l.counts()
			return r+u-refused-unanswered > 50
		}); err != nil {
			t.Fatalf("changes go on %v after the disk is full", patience)
		}
		for _, s := range d.servers {
			s.Call(t, http.StatusOK, http.MethodGet, "/flows/"+load.hot[0], "")
			s.Call(t, http.StatusOK, http.MethodGet, "/events?limit=1", "")
		}
		d.free()
		awaitService(t, d.servers, again)
		load.awaitMore(50)
		load.finish()
		verify(t, "a full disk", d.servers[0].Client, l)
	}
	checkLogs(t, d.servers)
}

// limitedSQLite lets no file of the server grow over what the log has now.
func limitedSQLite(t *testing.T) disk {
	url := servertest.SQLite(t)
	s := servertest.Start(t, servertest.Options{Database: url})
	limit := func(size uint64) {
		t.Helper()
		var old unix.Rlimit
		if err := unix.Prlimit(s.PID(), unix.RLIMIT_FSIZE, nil, &old); err != nil {
			t.Fatalf("reading a limit: %v", err)
		}
		if err := unix.Prlimit(s.PID(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: min(size, old.Max), Max: old.Max}, nil); err != nil {
			t.Fatalf("setting a limit: %v", err)
		}
	}
	fill := func() {
		log, err := os.Stat(strings.TrimPrefix(url, "sqlite:") + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		limit(uint64(log.Size()) + 10_000)
	}
	return disk{[]*servertest.Server{s}, fill, func() { limit(unix.RLIM_INFINITY) }}
}

// answeringPostgres has PostgreSQL refuse every event for want of room.
func answeringPostgres(t *testing.T) disk {
	cluster := durableCluster(t)
	url := cluster.URL("postgres")
	servers := servertest.StartAll(t, servertest.Options{Database: url}, 2)
	db := servertest.OpenDatabase(t, url)
	run := func(statements ...string) func() {
		return func() { execute(t, db, statements) }
	}
	return disk{servers, run(
		`create or replace function no_room() returns trigger language plpgsql as
			$$ begin raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$`,
		`create trigger no_room before insert on events execute function no_room()`,
	), run(`drop trigger no_room on events`)}
}

func mountedSQLite(t *testing.T, folder string) disk {
	s := servertest.Start(t, servertest.Options{Database: "sqlite:" + filepath.Join(folder, "taskflow.db")})
	fill, free := ballast(t, folder)
	return disk{[]*servertest.Server{s}, fill, free}
}

// mountedPostgres has the tables on a small file system, and the rest of PostgreSQL elsewhere: where the log of changes has
// no room, PostgreSQL goes down, and that is another test.
func mountedPostgres(t *testing.T, folder string) disk {
	cluster := durableCluster(t)
	if err := cluster.Own(folder); err != nil {
		t.Fatal(err)
	}
	execute(t, servertest.OpenDatabase(t, cluster.URL("postgres")), []string{
		"create tablespace small location '" + folder + "'", "create database small tablespace small",
	})
	servers := servertest.StartAll(t, servertest.Options{Database: cluster.URL("small")}, 2)
	fill, free := ballast(t, folder)
	return disk{servers, fill, free}
}

// mount makes a small file system in memory, where this process may, until the test's end.
func mount(t *testing.T, size string) (folder string, mounted bool) {
	t.Helper()
	folder, err := os.MkdirTemp("", "tfdisk") // not t.TempDir: PostgreSQL's account must be able to get there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(folder); err != nil {
			t.Errorf("removing a mount point: %v", err)
		}
	})
	switch err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "mode=0700,size="+size); {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		t.Logf("no file system of %s was filled: this process may not mount one", size)
		return "", false
	case err != nil:
		t.Fatalf("mounting: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return folder, true
}

// ballast fills a file system to the last byte, and empties it again.
func ballast(t *testing.T, folder string) (fill, free func()) {
	path := filepath.Join(folder, "ballast")
	fill = func() {
		t.Helper()
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(file, zeros{})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling a file system ended with %v", err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	free = func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	return fill, free
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
