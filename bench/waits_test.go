package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

func TestNewLateness(t *testing.T) {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := newLateness(all), (lateness{P50: 101, P99: 199, Max: 200}); got != want {
		t.Errorf("newLateness of 1 to 200 ms = %+v, want %+v", got, want)
	}
	if got, want := newLateness([]time.Duration{1500 * time.Microsecond}), (lateness{1.5, 1.5, 1.5}); got != want {
		t.Errorf("newLateness of one = %+v, want %+v", got, want)
	}
}

func TestTicks(t *testing.T) {
	before, err := ticks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	used := cpuTime()
	for cpuTime()-used < 100*time.Millisecond {
		bytes.Count(make([]byte, 1<<16), []byte{1})
	}
	after, err := ticks(os.Getpid())
	if rise := after - before; err != nil || rise < 9 || rise > 100 {
		t.Errorf("100 ms of work are %d ticks, %v; want about 10", rise, err)
	}
	if _, err := ticks(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ticks of no process: %v, want that it does not exist", err)
	}
}

// TestWaits runs all of it, small, and reads the result.
func TestWaits(t *testing.T) {
	t.Parallel()
	c := waitsCommand{
		Server: servertest.Binary(t), Timers: 200, Spread: 15 * time.Second, Replicas: 2, Kills: true, Waiting: 2000, Idle: 500 * time.Millisecond,
		JSON: filepath.Join(t.TempDir(), "waits.json"),
	}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var r waitsReport
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Timers == nil || r.Timers.Timers != 200 || r.Timers.Kills < 2 || r.Timers.Lateness.P50 < 0 || r.Timers.Lateness.Max < r.Timers.Lateness.P50 {
		t.Errorf("timers: %+v", r.Timers)
	}
	if len(r.Waiting) != 2 || r.Waiting[0].Waiting != fewWaiting || r.Waiting[1].Waiting != 2000 {
		t.Fatalf("waiting: %+v", r.Waiting)
	}
	for _, w := range r.Waiting {
		if w.Event.P50 <= 0 || w.Timer.P50 < 0 || w.ServerPercent < 0 {
			t.Errorf("waiting: %+v", w)
		}
	}
	var table strings.Builder
	if err := writeWaits(&table, r); err != nil || !strings.Contains(table.String(), "2000") || !strings.Contains(table.String(), "each fired once") {
		t.Errorf("%v:\n%s", err, table.String())
	}
}

func TestWaits_RefusesWhatMeasuresNothing(t *testing.T) {
	for _, c := range []waitsCommand{
		{Timers: -1, Replicas: 1, Idle: 1}, {Replicas: 0, Idle: 1}, {Replicas: 1}, {Replicas: 1, Idle: 1, Waiting: fewWaiting - 1},
	} {
		if err := c.Run(t.Context()); err == nil {
			t.Errorf("%+v runs", c)
		}
	}
}
