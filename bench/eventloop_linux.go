package main

import (
	"context"
	"iter"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file runs workers as coroutines over one epoll set. A goroutine that waits for each answer costs the generator a
// read that finds nothing, a trip through Go's scheduler, and often a thread that sleeps and is woken. Here a coroutine
// writes its request and is put aside until its socket can be read, and one epoll_wait brings many that can.

const (
	// eventsAtOnce bounds how many connections one epoll_wait reports.
	eventsAtOnce = 256
	// eventPatience is how long the loop may overlook that its context or its deadline has ended, in milliseconds.
	eventPatience = 10
)

// eventLoop runs tasks in turn, on the goroutine that calls run.
type eventLoop struct {
	epoll    int // descriptor
	deadline time.Time
	tasks    []*task
	running  int   // tasks that have not returned
	ended    error // why no task may wait any more; nil before
}

// task is a coroutine that may wait for one socket.
type task struct {
	loop   *eventLoop
	number int                             // in the loop's tasks; epoll's events carry it
	resume func() (_ struct{}, waits bool) // until the task waits or returns
	yield  func(struct{}) bool             // puts the task aside
}

// runWorkers runs the workers' loops to their end on the calling goroutine. The first error ends them all; requests that
// are under way at the deadline fail.
func runWorkers(ctx context.Context, workers []*worker, kind scenario, deadline time.Time) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer unix.Close(epoll)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	loop := &eventLoop{epoll: epoll, deadline: deadline}
	for _, w := range workers {
		t := loop.add(func() {
			if err := w.loop(ctx, kind); err != nil {
				cancel(err)
			}
		})
		w.conn.open = t.dial
	}
	loop.run(ctx)
	return context.Cause(ctx)
}

func (l *eventLoop) add(work func()) *task {
	t := &task{loop: l, number: len(l.tasks)}
	t.resume, _ = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		work()
	})
	l.tasks = append(l.tasks, t)
	l.running++
	return t
}

// run returns when every task has.
func (l *eventLoop) run(ctx context.Context) {
	for _, t := range l.tasks {
		l.step(t)
	}
	events := make([]unix.EpollEvent, eventsAtOnce)
	for l.running > 0 {
		n, err := rawCall(unix.SYS_EPOLL_PWAIT, l.epoll, unsafe.Pointer(&events[0]), len(events), eventPatience)
		switch {
		case err != nil && err != unix.EINTR:
			l.ended = os.NewSyscallError("epoll_wait", err)
		case ctx.Err() != nil:
			l.ended = ctx.Err()
		case !time.Now().Before(l.deadline):
			l.ended = os.ErrDeadlineExceeded
		}
		if l.ended != nil {
			l.release()
			return
		}
		for _, event := range events[:n] {
			l.step(l.tasks[event.Fd])
		}
	}
}

// step runs a task until it waits or returns.
func (l *eventLoop) step(t *task) {
	if _, waits := t.resume(); !waits {
		l.running--
	}
}

// release lets every task that waits fail, now that none may wait any more: each runs to its end.
func (l *eventLoop) release() {
	for _, t := range l.tasks {
		t.resume() // nothing happens where the task has returned before
	}
}

// rawCall is a system call on n elements in memory, unseen by Go's scheduler. Told of it, sysmon would wake every 20 µs to
// take this goroutine's processor away, and each return look for one again; nobody else needs it meanwhile. Other
// goroutines, as that which waits for Ctrl-C, get their turn when sysmon preempts this one every 10 ms or so: the signal
// ends a wait too.
func rawCall(trap uintptr, fd int, memory unsafe.Pointer, n, timeout int) (int, error) {
	result, _, errno := syscall.RawSyscall6(trap, uintptr(fd), uintptr(memory), uintptr(n), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(result), nil
}
