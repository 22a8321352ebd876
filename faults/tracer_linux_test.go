package faults_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tracer watches the system calls of a process that writes to files and answers by a connection, and notes each answer of
// success that left the process while something that it had written was not synced yet.
//
// It is the part of strace that is needed, so that no program has to be installed. The process must be a descendant of
// this one, which every system allows to be traced.
type tracer struct {
	pid    int
	watch  watch
	memory *os.File // the process's

	calls   map[int]call     // under way, by thread
	written map[string]int64 // by file, the number of the last write to it
	synced  map[string]int64 // by file, the number of the last write that a sync has covered

	// What was seen; to be read when ended is closed.
	writes, syncs, answers int64
	early                  []string // answers before their sync
	err                    error
	ended                  chan struct{} // with the process
}

// watch is what a tracer looks for.
type watch struct {
	stored  func(path string) bool // whether what is written to a file is what must be synced
	success func(sent []byte) bool // whether what is sent is, or holds, an answer of success
}

// sqliteOverHTTP is a server on SQLite: it writes to the database's file and its log.
func sqliteOverHTTP(database string) watch {
	return watch{
		stored:  func(path string) bool { return path == database || path == database+"-wal" },
		success: func(sent []byte) bool { return bytes.HasPrefix(sent, []byte("HTTP/1.1 2")) },
	}
}

// call is a system call: its number, its arguments, and of a sync, the last write before it.
type call struct {
	number  uint64
	args    [6]uint64
	path    string
	covered int64
}

// trace begins to watch a process, until it ends.
func trace(t *testing.T, pid int, w watch) *tracer {
	t.Helper()
	r, err := tryTrace(t, pid, w)
	if err != nil {
		t.Fatalf("tracing: %v", err)
	}
	return r
}

// tryTrace is trace for a process that may belong to somebody else, and that this one may then not trace.
func tryTrace(t *testing.T, pid int, w watch) (*tracer, error) {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { memory.Close() })
	r := &tracer{
		pid: pid, watch: w, memory: memory, ended: make(chan struct{}),
		calls: map[int]call{}, written: map[string]int64{}, synced: map[string]int64{},
	}
	seized := make(chan error, 1)
	go func() { // ends with the process, which no test outlives
		defer close(r.ended)
		r.run(seized)
	}()
	return r, <-seized
}

// run traces, on one thread: it is never given back, and its end lets go of the process. The thread must have no children
// of its own, as one has that started a program: it would hear of their end in place of whoever waits for it.
func (r *tracer) run(seized chan<- error) {
	runtime.LockOSThread()
	children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", unix.Gettid()))
	if err != nil {
		seized <- err
		return
	}
	if len(children) > 0 {
		var other sync.WaitGroup
		other.Go(func() { r.run(seized) }) // on another thread, as this one is taken
		other.Wait()
		return
	}
	err = r.seize()
	seized <- err
	if err == nil {
		r.err = r.follow()
	}
}

// seize takes hold of every thread of the process; those that begin later follow by themselves.
func (r *tracer) seize() error {
	held := map[int]bool{}
	for found := true; found; { // until no thread has begun meanwhile
		found = false
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", r.pid))
		if err != nil {
			return err
		}
		for _, path := range threads {
			thread, err := strconv.Atoi(filepath.Base(path))
			if err != nil || held[thread] {
				continue
			}
			held[thread], found = true, true
			const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE
			if err := ptrace(unix.PTRACE_SEIZE, thread, 0, options); err != nil && !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("thread %d: %w", thread, err)
			} else if err != nil {
				continue // it followed by itself; where nothing may be traced, the next call says so
			}
			if err := ptrace(unix.PTRACE_INTERRUPT, thread, 0, 0); err != nil {
				return fmt.Errorf("thread %d: %w", thread, err)
			}
		}
	}
	return nil
}

// follow lets the threads run from one system call to the next, until all have ended.
func (r *tracer) follow() error {
	for {
		var status unix.WaitStatus
		thread, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("waiting for a thread: %w", err)
		case !status.Stopped():
			delete(r.calls, thread)
			continue
		}
		const atCall, event = unix.SIGTRAP | 0x80, 16
		deliver := uintptr(0)
		switch signal := status.StopSignal(); {
		case signal == atCall:
			if err := r.stopped(thread); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		case uint32(status)>>event == 0:
			deliver = uintptr(signal) // it is the process's own
		}
		if err := ptrace(unix.PTRACE_SYSCALL, thread, 0, deliver); err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
			return fmt.Errorf("letting thread %d go on: %w", thread, err)
		}
	}
}

// stopped looks at a thread that enters or leaves a system call.
func (r *tracer) stopped(thread int) error {
	const entry, exit = 1, 2 // of struct ptrace_syscall_info, which is the same on every processor
	var info [88]byte
	if err := ptrace(unix.PTRACE_GET_SYSCALL_INFO, thread, uintptr(len(info)), uintptr(unsafe.Pointer(&info))); err != nil {
		return fmt.Errorf("asking for a system call: %w", err)
	}
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(info[24+8*i:]) }
	switch info[0] {
	case entry:
		c := call{number: word(0)}
		for i := range c.args {
			c.args[i] = word(1 + i)
		}
		r.calls[thread] = r.enter(c)
	case exit:
		r.leave(r.calls[thread], int64(word(0)))
	}
	return nil
}

// enter notes what is about to be written, synced or answered.
func (r *tracer) enter(c call) call {
	switch c.number {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_SENDTO, unix.SYS_FSYNC, unix.SYS_FDATASYNC:
	default:
		return c
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", r.pid, int32(c.args[0])))
	if err != nil {
		return c // it fails there too
	}
	c.path = path
	switch {
	case c.number == unix.SYS_FSYNC || c.number == unix.SYS_FDATASYNC:
		c.covered = r.written[path]
	case r.watch.stored(path):
		r.writes++
		r.written[path] = r.writes
	case strings.HasPrefix(path, "socket:"):
		r.answer(c)
	}
	return c
}

// answer judges what is about to leave by a connection.
func (r *tracer) answer(c call) {
	sent := make([]byte, min(1<<16, c.args[2]))
	if _, err := r.memory.ReadAt(sent, int64(c.args[1])); err != nil || !r.watch.success(sent) {
		return
	}
	r.answers++
	for path, last := range r.written {
		if r.synced[path] < last {
			r.early = append(r.early, fmt.Sprintf("answer %d left before write %d to %s was synced", r.answers, last, filepath.Base(path)))
		}
	}
}

// leave notes a sync that has been done.
func (r *tracer) leave(c call, result int64) {
	if (c.number == unix.SYS_FSYNC || c.number == unix.SYS_FDATASYNC) && result == 0 && c.path != "" {
		r.synced[c.path] = max(r.synced[c.path], c.covered)
		r.syncs++
	}
}

func ptrace(request, thread int, address, data uintptr) error {
	_, _, number := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(thread), address, data, 0, 0)
	if number != 0 {
		return number
	}
	return nil
}
