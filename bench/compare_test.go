package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The whole comparison, small: a durable cluster, both baselines, the generator and the plain server as processes of
// their own, and the results in a file.
func TestCompare(t *testing.T) {
	results := t.TempDir()
	c := compareCommand{Targets: []string{targetPgbench, targetPlain}, Connections: []int{2}, Rounds: 1,
		Duration: time.Second, Flows: 10, Pool: 4, Results: results}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(results, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("results %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Measurements) != 2 || len(got.Summaries) != 2 {
		t.Fatalf("%d measurements, %d summaries", len(got.Measurements), len(got.Summaries))
	}
	single, plain := got.Summaries[0], got.Summaries[1]
	if single.Target != targetPgbench || single.PerSecond <= 0 || single.P50Millis != nil {
		t.Errorf("pgbench: %+v", single)
	}
	if plain.Target != targetPlain || plain.PerSecond <= 0 || plain.P99Millis == nil || plain.Failures != 0 {
		t.Errorf("plain: %+v", plain)
	}
	if plain.VsPgbench == nil || *plain.VsPgbench != plain.PerSecond/single.PerSecond {
		t.Errorf("ratio %v of %v and %v", plain.VsPgbench, plain.PerSecond, single.PerSecond)
	}
	if got.Environment.PostgreSQL["fsync"] != "on" || got.Environment.Cores < 1 {
		t.Errorf("environment %+v", got.Environment)
	}
}

// What fails or is broken off leaves no folder behind, and so no cluster: its end removes the folder.
func TestCompareCleansUp(t *testing.T) {
	// Not t.TempDir: the cluster may run as another user, who may not enter that one's parent.
	temporary, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temporary) })
	if err := os.Chmod(temporary, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temporary)
	c := compareCommand{Server: filepath.Join(temporary, "none"), Targets: []string{targetServer},
		Connections: []int{1}, Rounds: 1, Duration: time.Second, Flows: 1}
	if err := c.Run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("broken off: %v", err)
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
