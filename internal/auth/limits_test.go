package auth_test

import (
	"fmt"
	"testing"
	"time"

	"taskflow/internal/auth"
)

func TestRate_IsForEachCaller(t *testing.T) {
	r := auth.NewRate(10, 20)
	now := time.Now()
	for i := range 20 {
		if _, ok := r.Allow("a", now); !ok {
			t.Fatalf("request %d of a burst of 20 is refused", i+1)
		}
	}
	wait, ok := r.Allow("a", now)
	if ok || wait <= 0 || wait > 100*time.Millisecond {
		t.Errorf("one more: %v, %v; want to wait a tenth of a second", wait, ok)
	}
	if _, ok := r.Allow("b", now); !ok {
		t.Error("another caller is refused")
	}
	if _, ok := r.Allow("a", now.Add(wait)); !ok {
		t.Error("refused after the wait")
	}
}

// TestRate_CountsWhatComesAsOne asks for several at once: all or none.
func TestRate_CountsWhatComesAsOne(t *testing.T) {
	r := auth.NewRate(10, 20)
	now := time.Now()
	if _, ok := r.AllowMore("a", 15, now); !ok {
		t.Error("15 of 20 are refused")
	}
	wait, ok := r.AllowMore("a", 10, now)
	if ok || wait < 500*time.Millisecond || wait > 700*time.Millisecond {
		t.Errorf("10 more: %v, %v; want to wait for 5 of them, and for the request that brings them again", wait, ok)
	}
	if _, ok := r.AllowMore("a", 5, now); !ok {
		t.Error("what was refused has been counted")
	}
}

// TestRate_HasLargeOnesPaidOff asks for more than may come at once: it passes where nothing came before, is paid for in full
// before anything else passes, and the caller is told how long that takes.
func TestRate_HasLargeOnesPaidOff(t *testing.T) {
	for _, burst := range []int{1, 20} {
		r := auth.NewRate(10, burst)
		now := time.Now()
		_, first := r.Allow("a", now)
		if _, ok := r.AllowMore("a", 499, now); !ok || !first {
			t.Errorf("burst %d: what is more than a burst never passes", burst)
		}
		wait, ok := r.Allow("a", now)
		owed := time.Duration(500-burst+1) * time.Second / 10 // to have one again
		if ok || wait.Round(time.Millisecond) != owed {
			t.Errorf("burst %d: one more: %v, %v; want to wait for %v", burst, wait, ok, owed)
		}
		if _, ok := r.Allow("a", now.Add(wait-time.Millisecond)); ok {
			t.Errorf("burst %d: passes before the rest is paid", burst)
		}
		now = now.Add(wait)
		if _, ok := r.Allow("a", now); !ok {
			t.Errorf("burst %d: refused after the wait", burst)
		}
		wait, ok = r.AllowMore("a", 499, now)
		if whole := time.Duration(burst) * time.Second / 10; burst > 1 && (ok || wait.Round(time.Millisecond) != whole) {
			t.Errorf("burst %d: as much again: %v, %v; want to wait for %v", burst, wait, ok, whole)
		}
	}
}

// TestRate_ForgetsOnlyWhoLosesNothing sends requests of more callers than are remembered.
func TestRate_ForgetsOnlyWhoLosesNothing(t *testing.T) {
	r := auth.NewRate(1, 2)
	now := time.Now()
	for i := range 9_999 {
		r.Allow(fmt.Sprint("early", i), now)
	}
	now = now.Add(time.Hour)
	r.Allow("busy", now)
	r.Allow("busy", now)
	for i := range 9_000 {
		r.Allow(fmt.Sprint("late", i), now)
	}
	if _, ok := r.Allow("busy", now); ok {
		t.Error("a busy caller has a new allowance because others came")
	}
}

func TestStreams_AreForEachCaller(t *testing.T) {
	s := auth.NewStreams(2)
	first, ok := s.Acquire("a")
	_, second := s.Acquire("a")
	if _, third := s.Acquire("a"); !ok || !second || third {
		t.Fatal("a caller does not have two streams, or has three")
	}
	if _, ok := s.Acquire("b"); !ok {
		t.Error("another caller is refused")
	}
	first()
	first()
	if _, ok := s.Acquire("a"); !ok {
		t.Error("refused after one was released")
	}
	if _, ok := s.Acquire("a"); ok {
		t.Error("released twice by one stream")
	}
}
