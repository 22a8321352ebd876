package servertest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// process is one run of the program. A shell holds it: the shell's standard input is a pipe that only the test process has
// open, so that when the test process lets go of it, or dies in whatever way, the shell kills the server. The server
// stays the shell's child until it has been waited for, so its pid stays its own.
type process struct {
	shell *exec.Cmd
	pipe  *os.File
	pid   int
	// ended is closed when the server has ended: nobody has its log open any more.
	ended chan struct{}
}

const leashScript = `
"$@" >&2 </dev/null & pid=$!
echo "$pid"
exec >/dev/null 2>&1
read -r _
kill -KILL "$pid"
wait "$pid"
`

// launch starts a program that writes its output to log.
func launch(path, folder string, args, environment []string, log io.Writer) (*process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	shell := exec.Command("/bin/sh", append([]string{"-c", leashScript, "leash", path}, args...)...)
	shell.Dir, shell.Env, shell.Stdin = folder, environment, read
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C reaches the server by way of the leash
	out, err := shell.StdoutPipe()
	if err != nil {
		return nil, err
	}
	messages, err := shell.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := shell.Start(); err != nil {
		return nil, err
	}
	p := &process{shell: shell, pipe: write, ended: make(chan struct{})}
	go func() { // ends with the server; release waits for it
		defer close(p.ended)
		_, _ = io.Copy(log, messages)
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		p.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		p.release()
		return nil, fmt.Errorf("reading the server's pid: %w", err)
	}
	return p, nil
}

func (p *process) signal(s syscall.Signal) error { return syscall.Kill(p.pid, s) }

// release kills what still runs, waits for it, and returns its exit code, 128 + n where a signal n ended it.
func (p *process) release() int {
	_ = p.pipe.Close()
	<-p.ended
	_ = p.shell.Wait() // it ends as the server did
	return p.shell.ProcessState.ExitCode()
}

// logBuffer is the output of every run of one server.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(data)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
