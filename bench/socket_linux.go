package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the connection of a task: a socket that never blocks the event loop, but the task that reads or writes.

// socket is a connection in the loop's epoll set. Only its task may use it.
type socket struct {
	task    *task
	fd      int
	awaited uint32 // event that epoll reports
	drained bool   // there was nothing left to read, the last time
}

// dial opens a connection for the task. All other tasks stand still meanwhile: a server on the same machine accepts at
// once, and dials are few.
func (t *task) dial(ctx context.Context, addr string) (io.ReadWriteCloser, error) {
	dialer := net.Dialer{Deadline: t.loop.deadline}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	fd, err := duplicate(conn.(*net.TCPConn))
	if err != nil {
		return nil, err
	}
	s := &socket{task: t, fd: fd}
	if err := s.await(unix.EPOLL_CTL_ADD, unix.EPOLLIN); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// duplicate takes a connection out of the hands of Go's poller: the descriptor stays when conn is closed, with the options
// that were set, O_NONBLOCK and TCP_NODELAY among them.
func duplicate(conn *net.TCPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(original uintptr) {
		fd, err = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0)
	})
	return fd, errors.Join(failed, os.NewSyscallError("fcntl", err))
}

func (s *socket) await(op int, event uint32) error {
	s.awaited = event
	err := unix.EpollCtl(s.task.loop.epoll, op, s.fd, &unix.EpollEvent{Events: event, Fd: int32(s.task.number)})
	return os.NewSyscallError("epoll_ctl", err)
}

// wait puts the task aside until the socket is ready for the event, or has failed.
func (s *socket) wait(event uint32) error {
	if s.awaited != event {
		if err := s.await(unix.EPOLL_CTL_MOD, event); err != nil {
			return err
		}
	}
	if s.task.loop.ended == nil {
		s.task.yield(struct{}{})
	}
	return s.task.loop.ended
}

// Read tries only when something may be there: not just after a request was written, nor after a read that was given less
// than it asked for.
func (s *socket) Read(p []byte) (int, error) {
	for {
		if s.drained {
			if err := s.wait(unix.EPOLLIN); err != nil {
				return 0, err
			}
		}
		n, err := rawCall(unix.SYS_READ, s.fd, unsafe.Pointer(unsafe.SliceData(p)), len(p), 0)
		s.drained = n < len(p)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write returns when the system has taken all of p.
func (s *socket) Write(p []byte) (int, error) {
	s.drained = true // no answer comes before its request
	written := 0
	for written < len(p) {
		n, err := rawCall(unix.SYS_WRITE, s.fd, unsafe.Pointer(&p[written]), len(p)-written, 0)
		switch {
		case err == unix.EAGAIN:
			if err := s.wait(unix.EPOLLOUT); err != nil {
				return written, err
			}
		case err == nil:
			written += n
		case err != unix.EINTR:
			return written, os.NewSyscallError("write", err)
		}
	}
	return written, nil
}

// Close takes the socket out of the epoll set too.
func (s *socket) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }
