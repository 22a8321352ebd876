package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// TestFeed runs all of it, small, and reads the result. No time is asked of it.
func TestFeed(t *testing.T) {
	t.Parallel()
	c := feedCommand{Server: servertest.Binary(t), Streams: 20, Rate: 100, Duration: time.Second, JSON: filepath.Join(t.TempDir(), "feed.json")}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var r feedReport
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Results) != 2 || r.Results[0].Streams != 0 || r.Results[1].Streams != 20 {
		t.Fatalf("the report: %s", text)
	}
	for _, one := range r.Results {
		if one.Changes < 10 || one.Same.P50 <= 0 || one.Other.Max < one.Other.P50 || one.RSS <= 0 || one.Peak < one.RSS {
			t.Errorf("odd figures: %+v", one)
		}
	}
}
