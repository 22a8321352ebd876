package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// This file reads what a server holds: memory, goroutines, sockets; under many connections, and after they have gone.

// holdings is what a server held at one moment.
type holdings struct {
	When string `json:"when"`
	// Tasks are goroutines, or threads where the server tells no number of goroutines.
	Tasks   int     `json:"tasks"`
	TasksOf string  `json:"tasks_of"` // goroutines or threads
	Sockets int     `json:"sockets"`  // of clients, of the database, and the listener
	RSS     float64 `json:"rss_mb"`
	Peak    float64 `json:"peak_rss_mb"`
}

// measureHoldings looks at a fresh server, loads it with many connections, looks again, and does so once more. The first
// load fills what is filled once, such as the pool of database connections; after that a load should leave nothing.
func (c *goalsCommand) measureHoldings(ctx context.Context, s *stage) ([]holdings, error) {
	_, server, err := s.serveNew(ctx, "holdings")
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	var all []holdings
	for _, when := range []string{"fresh", "after one load", "after two loads"} {
		if when != "fresh" {
			if _, err := s.load(ctx, server, c.command("state", c.Connections)); err != nil {
				return nil, err
			}
			if err := pause(ctx, c.Settle); err != nil {
				return nil, err
			}
		}
		h, err := holdingsOf(ctx, server)
		if err != nil {
			return nil, err
		}
		h.When = when
		fmt.Fprintf(os.Stderr, "%s: %d %s, %d sockets, %.0f MB, %.0f MB at the peak\n", when, h.Tasks, h.TasksOf, h.Sockets, h.RSS, h.Peak)
		all = append(all, h)
	}
	return all, nil
}

const (
	memoryLimit = 150 // MB
	// A goroutine or a socket more or less is whatever loop happened to run.
	slackTasks, slackSockets = 5, 2
	// The runtime gives memory back when it likes: so much more than after the first load is taken for the same.
	slackMemory = 1.2
)

// judgeHoldings compares what is held after the second load with what was held after the first.
func judgeHoldings(all []holdings, connections int) []goalResult {
	first, second := all[1], all[2]
	limits := func(name, unit string, value, limit float64) goalResult {
		return newGoalResult(name, unit, []float64{value}, limit, true)
	}
	return []goalResult{
		limits(fmt.Sprintf("resident memory under %d connections, at its peak", connections), "MB", second.Peak, memoryLimit),
		limits(second.TasksOf+" after a load, above those before it", "", float64(second.Tasks-first.Tasks), slackTasks),
		limits("connections after a load, above those before it", "", float64(second.Sockets-first.Sockets), slackSockets),
		limits("resident memory after a load, against before it", "x", second.RSS/first.RSS, slackMemory),
	}
}

// holdingsOf looks at a server, by /proc and, for goroutines, its own metrics.
func holdingsOf(ctx context.Context, server *process) (h holdings, err error) {
	if h.RSS, h.Peak, err = memoryOf(server.pid); err != nil {
		return h, err
	}
	files, err := os.ReadDir(procPath(server.pid, "fd"))
	if err != nil {
		return h, err
	}
	for _, file := range files {
		// One that was closed meanwhile has no link any more.
		if link, err := os.Readlink(procPath(server.pid, "fd/"+file.Name())); err == nil && strings.HasPrefix(link, "socket:") {
			h.Sockets++
		}
	}
	if n, ok := goroutinesOf(ctx, server.url); ok {
		h.Tasks, h.TasksOf = n, "goroutines"
		return h, nil
	}
	threads, err := os.ReadDir(procPath(server.pid, "task"))
	h.Tasks, h.TasksOf = len(threads), "threads"
	return h, err
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// goroutinesOf is go_goroutines of a server's metrics; ok is false where it has none.
func goroutinesOf(ctx context.Context, url string) (n int, ok bool) {
	conn := newHTTPConn(strings.TrimPrefix(url, "http://"), time.Now().Add(10*time.Second))
	defer conn.close()
	answer, err := conn.do(ctx, request{method: "GET", path: "/metrics"})
	if err != nil || answer.status != http.StatusOK {
		return 0, false
	}
	for line := range strings.Lines(string(answer.body)) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "go_goroutines "); found {
			n, err := strconv.Atoi(value)
			return n, err == nil
		}
	}
	return 0, false
}
