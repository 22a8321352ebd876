package servertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary is the path of the built server. The first call of a test process builds it.
func Binary(t testing.TB) string {
	t.Helper()
	b, err := built()
	if err != nil {
		t.Fatalf("building the server: %v", err)
	}
	return b.path
}

// binary is the built program and the shell that removes it at the end of the process.
type binary struct {
	path  string
	leash *os.File // held open; its end is what the shell waits for
}

var built = sync.OnceValues(build)

func build() (*binary, error) {
	folder, err := os.MkdirTemp("", "tfserver")
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	defer read.Close()
	remover := exec.Command("/bin/sh", "-c", `read -r _; rm -rf "$1"`, "remover", folder)
	remover.Stdin = read
	remover.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C must not end it before its work is done
	if err := remover.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	b := &binary{path: filepath.Join(folder, "server"), leash: write}
	command := exec.Command("go", "build", "-race", "-o", b.path, "taskflow/cmd/server")
	command.Env = append(os.Environ(), "CGO_ENABLED=1") // the race detector needs it
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return b, nil
}

// Result is what a command that ran to its end left behind.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// commandTimeout bounds a command that is expected to end by itself.
const commandTimeout = time.Minute

// Run runs the program with arguments until it ends. It fails the test where that takes over a minute.
func Run(t testing.TB, o Options, args ...string) Result {
	t.Helper()
	command := exec.CommandContext(t.Context(), Binary(t), args...)
	command.Dir, command.Env = t.TempDir(), o.environment()
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	timeout := time.AfterFunc(commandTimeout, func() { _ = command.Process.Kill() })
	if err := command.Start(); err != nil {
		timeout.Stop()
		t.Fatalf("starting the server %q: %v", args, err)
	}
	err := command.Wait()
	inTime := timeout.Stop()
	result := Result{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	var exit *exec.ExitError
	if !inTime || err != nil && !errors.As(err, &exit) {
		t.Fatalf("server %q: %v\n%s%s", args, err, result.Stdout, result.Stderr)
	}
	return result
}
