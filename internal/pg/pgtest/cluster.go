package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoPostgres: PostgreSQL's server programs are not on this machine.
var ErrNoPostgres = errors.New("PostgreSQL's programs initdb and postgres were not found: install the server package, " +
	"put its bin folder on PATH, or set TEST_POSTGRES_URL")

// Options say how a cluster is made.
type Options struct {
	// Fast gives up durability (fsync off) for speed. Never for a test of what survives a crash, nor for a measurement.
	Fast bool
	// Settings are further settings of the server, name to value.
	Settings map[string]string
}

// Cluster is a private PostgreSQL server in a temporary folder, reached through a Unix socket there and by no network,
// unless its settings say so.
// It ends with this process, however this process ends: see leash. Its methods must not be called at once.
type Cluster struct {
	root    string // the temporary folder: data/, the socket and the log
	bin     string // the folder of PostgreSQL's programs
	options Options
	account *syscall.SysProcAttr
	server  *leash // nil while stopped
}

// leash is one run of the server. A shell holds it: the shell's standard input is a pipe that only this process has
// open, so when this process stops the server, or dies in whatever way, the shell sees the end of it and puts the
// server down. Parent-death signals would do it too, but only on Linux, and they follow the thread, not the process.
type leash struct {
	shell *exec.Cmd
	pipe  *os.File
	pid   int // of the postmaster
}

// leashScript starts the postmaster ("$@") and waits for a word on the pipe. At its end without the word keep, the
// temporary folder goes as well. The postmaster stays a child until it has been waited for, so its pid stays its own.
const leashScript = `
root=$1; shift
"$@" >>"$root/log" 2>&1 </dev/null & pid=$!
echo "$pid"
read -r word
kill -QUIT "$pid" 2>/dev/null
wait "$pid"
[ "$word" = keep ] || rm -rf "$root"
`

// StartCluster makes a cluster and starts it. The caller stops it with Stop. Errors: ErrNoPostgres, or what the programs
// report.
func StartCluster(ctx context.Context, o Options) (*Cluster, error) {
	bin, err := findPrograms()
	if err != nil {
		return nil, err
	}
	root, err := os.MkdirTemp("", "tfpg")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the cluster: %w", err)
	}
	c := &Cluster{root: root, bin: bin, options: o}
	if err := c.initialize(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := c.Start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// URL is the address of a database of the cluster. It stays the same across Kill and Start.
func (c *Cluster) URL(database string) string {
	query := url.Values{"host": {c.root}, "user": {"postgres"}, "sslmode": {"disable"}}
	if port := c.options.Settings["port"]; port != "" {
		query.Set("port", port) // it is part of the socket's name
	}
	return "postgres:///" + url.PathEscape(database) + "?" + query.Encode()
}

// Start starts the server again after Kill, on the same data, and returns when it takes connections.
func (c *Cluster) Start(ctx context.Context) error {
	if c.server != nil {
		return errors.New("the cluster is running")
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("opening the leash: %w", err)
	}
	defer read.Close()
	args := append([]string{"-c", leashScript, "leash", c.root, filepath.Join(c.bin, "postgres")}, c.flags()...)
	shell := exec.Command("/bin/sh", args...)
	shell.Dir, shell.Stdin, shell.Env = c.root, read, environment()
	account := *c.account
	account.Setsid = true // a Ctrl-C is for this process, and reaches the server by way of the leash
	shell.SysProcAttr = &account
	out, err := shell.StdoutPipe()
	if err == nil {
		err = shell.Start()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("starting the server: %w", err), write.Close())
	}
	c.server = &leash{shell: shell, pipe: write}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		c.server.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	return c.waitReady(ctx)
}

// Kill ends the server as a power cut would: SIGKILL for the postmaster and for each of its children, with nothing
// written any more. It returns when they are gone.
func (c *Cluster) Kill() error {
	if c.server == nil {
		return errors.New("the cluster is not running")
	}
	// A stopped postmaster makes no more children, and does not reap those it has, so no pid can change hands.
	if err := syscall.Kill(c.server.pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping the postmaster: %w", err)
	}
	children := childrenOf(c.server.pid)
	for _, pid := range append(slices.Clone(children), c.server.pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("killing process %d: %w", pid, err)
		}
	}
	if err := c.release("keep\n"); err != nil {
		return err
	}
	return waitGone(children)
}

// Stop ends the server at once and removes its data.
func (c *Cluster) Stop() error {
	if c.server == nil {
		return os.RemoveAll(c.root)
	}
	return errors.Join(c.release("end\n"), os.RemoveAll(c.root))
}

// release lets the leash go and waits for the server's end.
func (c *Cluster) release(word string) error {
	server := c.server
	c.server = nil
	_, err := server.pipe.WriteString(word)
	err = errors.Join(err, server.pipe.Close())
	var exit *exec.ExitError
	if waited := server.shell.Wait(); waited != nil && !errors.As(waited, &exit) {
		err = errors.Join(err, waited)
	}
	return err
}

// flags are the server's settings.
func (c *Cluster) flags() []string {
	settings := map[string]string{
		"listen_addresses": "", "unix_socket_directories": c.root, "max_connections": "300",
		"shared_buffers": "64MB", "timezone": "UTC", "log_line_prefix": "%m [%p] ",
	}
	if c.options.Fast {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	for name, value := range c.options.Settings {
		settings[name] = value
	}
	flags := []string{"-D", c.data()}
	for name, value := range settings {
		flags = append(flags, "-c", name+"="+value)
	}
	return flags
}

func (c *Cluster) data() string { return filepath.Join(c.root, "data") }

// initialize makes the data folder. PostgreSQL refuses to run as root, so root runs it as another user.
func (c *Cluster) initialize(ctx context.Context) error {
	c.account = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		uid, gid, err := ordinaryUser()
		if err != nil {
			return err
		}
		c.account.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := c.Own(c.root); err != nil {
			return err
		}
	}
	initdb := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), "--pgdata", c.data(), "--username=postgres",
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr, initdb.Env = c.root, c.account, environment()
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// Own hands a file or folder over to the account that the server runs as.
func (c *Cluster) Own(path string) error {
	account := c.account.Credential
	if account == nil {
		return nil
	}
	if err := os.Chown(path, int(account.Uid), int(account.Gid)); err != nil {
		return fmt.Errorf("handing %s over: %w", path, err)
	}
	return nil
}

// waitReady waits until the server takes connections, 60 s at most.
func (c *Cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(c.root, "log"))
			return fmt.Errorf("the server did not become ready: %w\n%s", err, log)
		case <-tick.C:
		}
	}
}

// findPrograms finds the folder of initdb and postgres: on PATH, or the newest where Debian and Ubuntu put them.
func findPrograms() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && runnable(filepath.Dir(path), "initdb") {
			return filepath.Dir(path), nil
		}
	}
	version := func(bin string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		return n
	}
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(bins, func(a, b string) int { return version(b) - version(a) })
	for _, bin := range bins {
		if runnable(bin, "postgres") && runnable(bin, "initdb") {
			return bin, nil
		}
	}
	return "", errors.Join(ErrNoPostgres, err)
}

// Program is the path of one of PostgreSQL's programs, like pg_dump: of the version that a cluster runs, or else the one on
// PATH. It fails the test where there is none.
func Program(t testing.TB, name string) string {
	t.Helper()
	if bin, err := findPrograms(); err == nil && runnable(bin, name) {
		return filepath.Join(bin, name)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("PostgreSQL's program %s was not found: %v", name, err)
	}
	return path
}

func runnable(bin, program string) bool {
	_, err := exec.LookPath(filepath.Join(bin, program))
	return err == nil
}

// ordinaryUser is whom root runs the server as.
func ordinaryUser() (uid, gid int, err error) {
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres or nobody: %w", err)
	}
	uid, err = strconv.Atoi(account.Uid)
	if err == nil {
		gid, err = strconv.Atoi(account.Gid)
	}
	return uid, gid, err
}

// environment is this process's, with the language of messages fixed and no setting meant for another server.
func environment() []string {
	kept := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	return append(kept, "LC_ALL=C")
}

// childrenOf lists a process's children. Where there is no /proc it finds none: they end by themselves once they see
// that the postmaster is gone.
func childrenOf(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var children []int
	for _, path := range stats {
		if child, parent, _ := processOf(path); parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// processOf reads a process's id, parent and state from its /proc/<pid>/stat; zeros where it is gone.
func processOf(stat string) (pid, parent int, state string) {
	text, err := os.ReadFile(stat)
	if err != nil {
		return 0, 0, ""
	}
	pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(stat)))
	rest := string(text[strings.LastIndexByte(string(text), ')')+1:]) // past the name, which may hold anything
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		return 0, 0, ""
	}
	return pid, parent, state
}

// waitGone waits until none of the processes runs, 10 s at most. One that nobody has reaped yet is gone.
func waitGone(pids []int) error {
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		pids = slices.DeleteFunc(pids, func(pid int) bool {
			_, _, state := processOf(fmt.Sprintf("/proc/%d/stat", pid))
			return state == "" || state == "Z" || state == "X"
		})
		if len(pids) == 0 {
			return nil
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("processes %v outlived SIGKILL", pids)
		case <-tick.C:
		}
	}
}
