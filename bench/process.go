package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// This file starts servers as processes of their own, waits until they are ready, and sees to it that none is left.

const (
	// readyTimeout is how long a server may take to become ready.
	readyTimeout = 30 * time.Second
	// readyPoll is the pause between two looks at /readyz.
	readyPoll = 20 * time.Millisecond
	// stopDelay is how long a process may take to stop after it was asked to, before it is killed.
	stopDelay = 20 * time.Second
)

var errExited = errors.New("exited by itself")

// process is one running server. Stop must be called; it is safe to call more than once.
type process struct {
	name   string
	url    string
	pid    int
	cancel context.CancelFunc
	exited chan struct{} // closed when the process is gone
	ended  error         // how it ended; to be read once exited is closed
	output *lastOutput
}

// startServer runs a program that serves HTTP on address, and waits for its /readyz. When ctx ends, the process is asked
// to stop by SIGTERM and killed if it does not.
func startServer(ctx context.Context, name, address string, variables []string, program string, args ...string) (*process, error) {
	running, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(running, program, args...)
	command.Env = childEnvironment(variables...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = stopDelay
	p := &process{name: name, url: "http://" + address, cancel: cancel, exited: make(chan struct{}), output: &lastOutput{}}
	command.Stdout, command.Stderr = p.output, p.output
	if err := command.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.pid = command.Process.Pid
	go func() { // ends with the process; Stop waits for it
		defer close(p.exited)
		p.ended = command.Wait()
	}()
	if err := p.waitReady(ctx); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%s: %w: %s", name, err, p.output)
	}
	return p, nil
}

func (p *process) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		if isReady(ctx, client, p.url) {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return errors.Join(errExited, p.ended)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", ctx.Err())
		}
	}
}

func isReady(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Stop asks the process to stop and waits until it is gone.
func (p *process) Stop() {
	p.cancel()
	<-p.exited
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *process) Kill() error {
	err := syscall.Kill(p.pid, syscall.SIGKILL)
	p.Stop()
	return err
}

// complaint is what there is to know of a server that a measurement failed on, as an error: how it ended, if it did,
// and the end of what it printed. Nil where there is neither.
func (p *process) complaint() error {
	var ended error
	select {
	case <-p.exited:
		ended = fmt.Errorf("%s ended: %w", p.name, cmp.Or(p.ended, errExited))
	default:
	}
	if printed := p.output.String(); printed != "" {
		ended = errors.Join(ended, fmt.Errorf("%s printed: %s", p.name, printed))
	}
	return ended
}

// freeAddress is a loopback address that nobody listens on at the moment.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// lastOutput keeps the end of what a process prints, for the error that names it.
type lastOutput struct {
	mutex sync.Mutex
	kept  bytes.Buffer
}

// keptOutput is how much of a process's output is kept, in bytes, at least.
const keptOutput = 4 << 10

func (o *lastOutput) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.kept.Write(p)
	if extra := o.kept.Len() - keptOutput; extra > keptOutput {
		o.kept.Next(extra)
	}
	return len(p), nil
}

func (o *lastOutput) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return tail(o.kept.String(), keptOutput)
}
