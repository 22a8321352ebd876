package storetest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"taskflow/internal/store"
)

func answerCases() []testCase {
	return []testCase{
		{"Stored", "Response is opaque here.", testAnswerStored},
		{"Replaced", "Answers are inserted, or replace the stored answer of the same key that Load found.", testAnswerReplaced},
		{"Swept", "SweepAnswers deletes at most limit stored answers that were recorded before the given time, and " +
			"returns how many it deleted.", testAnswersSwept},
		{"SweptEmpty", "SweepAnswers returns how many it deleted.", testNothingToSweep},
	}
}

func answerKey(n int) store.AnswerKey { return sha256.Sum256(fmt.Append(nil, "key ", n)) }

func newAnswer(n int, response string) store.Answer {
	return store.Answer{Key: answerKey(n), Fingerprint: sha256.Sum256([]byte(response)), Response: []byte(response),
		CreatedAt: at(n)}
}

func answerText(a *store.Answer) string {
	if a == nil {
		return "-"
	}
	return fmt.Sprintf("answer %x %x %q %s %q", a.Key, a.Fingerprint, a.Owners, timeText(a.CreatedAt), a.Response)
}

func expectAnswer(t *testing.T, s store.Store, want store.Answer) {
	t.Helper()
	got := load(t, s, store.Need{Answers: []store.AnswerKey{want.Key}}).Answers[want.Key]
	same(t, "answer", answerText(got), answerText(&want))
}

func testAnswerStored(t *testing.T, s store.Store) {
	for i, response := range []string{"", "text", "\x00\xff\xfe\x00", string(make([]byte, 256<<10))} {
		a := newAnswer(i, response)
		save(t, s, store.Writes{Answers: []store.Answer{a}})
		expectAnswer(t, s, a)
	}
	zero := store.Answer{Response: []byte("all zeros"), CreatedAt: at(0)}
	save(t, s, store.Writes{Answers: []store.Answer{zero}})
	expectAnswer(t, s, zero)
	expectAnswer(t, s, newAnswer(1, "text"))
}

func testAnswerReplaced(t *testing.T, s store.Store) {
	save(t, s, store.Writes{Answers: []store.Answer{newAnswer(1, "first"), newAnswer(2, "other")}})
	next := newAnswer(1, "second")
	next.CreatedAt = at(100)
	save(t, s, store.Writes{Answers: []store.Answer{next, newAnswer(3, "new")}})
	expectAnswer(t, s, next)
	expectAnswer(t, s, newAnswer(2, "other"))
	expectAnswer(t, s, newAnswer(3, "new"))
	if n, err := s.SweepAnswers(t.Context(), at(1000), 100); n != 3 || err != nil {
		t.Errorf("swept %d, %v; want the 3 that there are", n, err)
	}
}

func testAnswersSwept(t *testing.T, s store.Store) {
	var w store.Writes
	for i := range 10 {
		w.Answers = append(w.Answers, newAnswer(i, fmt.Sprint("answer ", i)))
	}
	save(t, s, w)
	sweep := func(before time.Time, limit, want int) {
		t.Helper()
		if n, err := s.SweepAnswers(t.Context(), before, limit); n != want || err != nil {
			t.Errorf("SweepAnswers(%s, %d) = %d, %v; want %d", before, limit, n, err, want)
		}
	}
	sweep(at(0), 100, 0)
	sweep(at(6), 2, 2)
	sweep(at(6), 3, 3)
	sweep(at(6), 3, 1)
	sweep(at(6), 3, 0)
	left := load(t, s, needOf(w)).Answers
	for i, a := range w.Answers {
		if (left[a.Key] != nil) != (i >= 6) {
			t.Errorf("answer %d is there: %v", i, left[a.Key] != nil)
		}
	}
}

func testNothingToSweep(t *testing.T, s store.Store) {
	if n, err := s.SweepAnswers(t.Context(), at(0), 1); n != 0 || err != nil {
		t.Errorf("SweepAnswers = %d, %v", n, err)
	}
}
