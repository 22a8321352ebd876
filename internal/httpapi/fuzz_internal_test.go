package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

// The fuzz targets run their seeds as ordinary tests; each seed is a case that readers are known to disagree on.

func FuzzGuard(f *testing.F) {
	for _, seed := range []string{
		``, ` `, `{}`, `[]`, `null`, `true`, `"a"`, `0`, `-0`, `1.10`, `12345678901234567890`, `10e308`, `1e308`, `1e309`, `1e-309`, `1e+0308`, `-1E-308`,
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":{"a":1}}`, `[{"a":1},{"a":1}]`, `{"a":1}{}`, `{} {}`, `{}x`, `[1,]`, `{"a":1,}`, `[,]`, `{"a"}`, `{1:2}`,
		"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", `"\ud83d"`, `"\ude00"`, `"\ud83d\ude00"`, `"\ud83d\u0041"`, `"\u0000"`, "\"\x00\"", "\"\x1f\"", `{"\u0000":1}`,
		"\ufeff{}", `'a'`, `NaN`, `Infinity`, `01`, `+1`, `.5`, `1.`, `1e`, `0x1`, `// c`, `{"a":1} // c`, `"\x41"`, `"\u00e9\/\b"`, "{\"a\" :\r\n\t1 }", `nul`, `tru`, `"`, `{"`, `[`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
		strings.Repeat("7", 64), strings.Repeat("7", 65), "0." + strings.Repeat("7", 63), "0." + strings.Repeat("7", 64), strings.Repeat("[", 100000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		value, err := guardJSON(body, maxDepth, mostValues(1<<20), nil)
		if unread := checkJSON(body); (unread == nil) != (err == nil) && len(body) < 1<<17 {
			t.Fatalf("read with %v, and checked alone with %v", err, unread)
		}
		member := slices.Concat([]byte(`{"free":`), body, []byte(`}`))
		_, read := guardJSON(member, maxDepth, mostValues(1<<20), nil)
		if _, passed := guardJSON(member, maxDepth, mostValues(1<<20), map[string]bool{"free": true}); !reflect.DeepEqual(read, passed) && len(body) < 1<<17 {
			t.Fatalf("as a member refused with %v, as a free one with %v", read, passed)
		}
		if err != nil {
			var p *problem
			if !errors.As(err, &p) || p.slug != slugInvalidRequest || len(p.errors) != 1 || p.errors[0].detail == "" {
				t.Fatalf("refused with %v", err)
			}
			if plainlyRight(body) {
				t.Fatalf("refused what no reader could doubt: %v", err)
			}
			return
		}
		if !utf8.Valid(body) {
			t.Fatal("accepted text that is not UTF-8")
		}
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		var standard any
		if err := decoder.Decode(&standard); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if decoder.More() {
			t.Fatal("accepted more than one value")
		}
		if !agree(value, standard) {
			t.Fatalf("read as %v, by encoding/json as %v", value, standard)
		}
	})
}

// TestGuard_BoundsWhatItKeeps decodes bodies with as many values as are taken, of the kinds that take the most memory.
func TestGuard_BoundsWhatItKeeps(t *testing.T) {
	const maxBody = 1 << 20
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for one, cost := range map[string]int{"[]": 1, "{}": objectCost, `{"":0}`: objectCost + 1, "0": 1, `{"":{}}`: 2 * objectCost, `[""]`: 2} {
		body := func(n int) []byte { return []byte("[" + strings.Repeat(one+",", n-1) + one + "]") }
		most := (mostValues(maxBody) - 1) / cost // the array itself is one
		before := heap()
		kept, err := guardJSON(body(most), maxDepth, mostValues(maxBody), nil)
		size := heap() - before
		runtime.KeepAlive(kept)
		if err != nil || size < maxBody/100 || size > 20*maxBody {
			t.Errorf("%d times %s: %v, %d bytes are kept, want at most 20 times the limit of %d", most, one, err, size, maxBody)
		}
		var p *problem
		if _, err := guardJSON(body(most+1), maxDepth, mostValues(maxBody), nil); !errors.As(err, &p) || p.slug != slugPayloadTooLarge {
			t.Errorf("%d times %s: %v", most+1, one, err)
		}
	}
}

// TestGuard_LeavesRoom reads what an honest caller sends at most: states at their limit, and a full batch.
func TestGuard_LeavesRoom(t *testing.T) {
	fill := func(one string, bytes int) string {
		return "[" + strings.Repeat(one+",", bytes/(len(one)+1)-1) + one + "]"
	}
	command := `{"method":"POST","path":"/flows/x/state","if_match":"3","idempotency_key":"k","body":{"patch":{"rows":[{"id":1,"tags":["a","b"],"ok":true}]}}}`
	for what, body := range map[string]string{
		"digits": fill("0", 256<<10), "arrays": fill("[0]", 256<<10), "objects": fill(`{"n":1}`, 256<<10), "a batch": fill(command, 500*(len(command)+1)),
	} {
		if _, err := guardJSON([]byte(body), maxDepth+3, mostValues(1<<20), nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// plainlyRight reports whether a body is valid JSON with nothing in it that the guard looks for: no object, no escape, no
// exponent, and too short to be deep or monstrous.
func plainlyRight(body []byte) bool {
	return len(body) < maxDepth && !bytes.ContainsAny(body, `{\eE`) && utf8.Valid(body) && json.Valid(body)
}

// agree compares what the guard read with what encoding/json read.
func agree(ours, standard any) bool {
	switch s := standard.(type) {
	case map[string]any:
		o, ok := ours.(map[string]any)
		if !ok || len(o) != len(s) {
			return false
		}
		for key := range s {
			if other, has := o[key]; !has || !agree(other, s[key]) {
				return false
			}
		}
		return true
	case []any:
		o, ok := ours.([]any)
		if !ok || len(o) != len(s) {
			return false
		}
		for i := range s {
			if !agree(o[i], s[i]) {
				return false
			}
		}
		return true
	case json.Number:
		o, ok := ours.(float64)
		near, err := s.Float64()
		return ok && (err != nil || o == near)
	case string:
		return ours == standard && strings.IndexByte(s, 0) < 0
	}
	return ours == standard
}

// allLists are the lists that have cursors, and whether they go by time.
var allLists = map[cursorList]bool{
	cursorCreatedAsc: true, cursorCreatedDesc: true, cursorUpdatedAsc: false, cursorUpdatedDesc: false, cursorSteps: true, cursorReceipts: true, cursorEventsAsc: false, cursorEventsDesc: false,
}

func FuzzCursor(f *testing.F) {
	now := time.Date(2026, 4, 23, 15, 0, 0, 123000, time.UTC)
	id := uuid.MustParse("0197b3a0-5c1e-7d3a-9c55-3f2e8a1b7c4d")
	for list, timed := range allLists {
		if timed {
			f.Add(encodeTimed(list, now, id))
			f.Add(encodeTimed(list, time.UnixMicro(0), uuid.Nil))
			f.Add(encodeTimed(list, time.UnixMicro(-1), id))
			f.Add(encodeTimed(list, time.UnixMicro(maxMicros+1), uuid.Max))
		} else {
			f.Add(encodeSeq(list, 0))
			f.Add(encodeSeq(list, 7))
			f.Add(encodeSeq(list, -1))
		}
	}
	for _, seed := range []string{"", "A", "YQ", "YQ==", "\n", "YwAA\nAA", "%%%", "ü", strings.Repeat("A", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		accepted := 0
		for list, timed := range allLists {
			if timed {
				at, id, err := decodeTimed(list, cursor)
				if err != nil {
					continue
				}
				if back := encodeTimed(list, at, id); back != cursor || at.Year() > 10000 {
					t.Fatalf("%q is read as %s %s, which is %q", cursor, at, id, back)
				}
			} else {
				seq, err := decodeSeq(list, cursor)
				if err != nil {
					continue
				}
				if back := encodeSeq(list, seq); back != cursor || seq < 0 {
					t.Fatalf("%q is read as %d, which is %q", cursor, seq, back)
				}
			}
			accepted++
		}
		if accepted > 1 {
			t.Fatalf("%q is a cursor of %d lists", cursor, accepted)
		}
	})
}

func TestCursorsComeBack(t *testing.T) {
	for list, timed := range allLists {
		for _, n := range []int64{0, 1, 1777_000_000_000_001, maxMicros} {
			if timed {
				at, id, err := decodeTimed(list, encodeTimed(list, time.UnixMicro(n), uuid.Max))
				if err != nil || at.UnixMicro() != n || id != uuid.Max {
					t.Errorf("%c %d came back as %s %s, %v", list, n, at, id, err)
				}
			} else if seq, err := decodeSeq(list, encodeSeq(list, n)); err != nil || seq != n {
				t.Errorf("%c %d came back as %d, %v", list, n, seq, err)
			}
		}
	}
}

func FuzzTag(f *testing.F) {
	for _, seed := range []string{`"0"`, `"3"`, `W/"3"`, `*`, ``, `3`, `"03"`, `"-1"`, `"+1"`, `"9223372036854775807"`, `"9223372036854775808"`, `"1", "2"`, `W/`, `W/*`, `"`, `""`,
		`"a" , W/"b"`, `"1",`, `,`, `W/"1`, "\"\u0661\"", `"1_0"`, `"0x1"`, `" 1"`} {
		f.Add(seed, int64(3))
	}
	f.Fuzz(func(t *testing.T, header string, revision int64) {
		match, err := parseIfMatch(&header)
		if err == nil {
			plain := match.canonical()
			if plain != strings.TrimPrefix(header, "W/") {
				t.Fatalf("%q is read as %q", header, plain)
			}
			if again, err := parseIfMatch(&plain); err != nil || !reflect.DeepEqual(again, match) {
				t.Fatalf("%q is read as %v, and then as %v, %v", header, match, again, err)
			}
		}
		same, err := matchesNone(&header, &flows.Flow{Revision: revision})
		if same && (err != nil || header != "*" && strings.TrimSpace(header) != "*" && !strings.Contains(header, strconv.FormatInt(revision, 10))) {
			t.Fatalf("%q matches revision %d, %v", header, revision, err)
		}
		if revision >= 0 {
			own := etag(&flows.Flow{Revision: revision})
			if read, ok := parseTag(own); !ok || read != revision {
				t.Fatalf("the tag %s is read as %d, %t", own, read, ok)
			}
			if same, err := matchesNone(&own, &flows.Flow{Revision: revision}); !same || err != nil {
				t.Fatalf("the tag %s does not match its revision, %v", own, err)
			}
		}
	})
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"", "a", `"a"`, `"`, `""`, `"a\"b"`, `"a\\b"`, `"a\b"`, `"a"b"`, "a b", "ü", "\x7f", "\x00", strings.Repeat("x", 255), strings.Repeat("x", 256),
		`"` + strings.Repeat(`\"`, 255) + `"`, `"` + strings.Repeat("x", 256) + `"`, `a"b`, `\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		key, err := parseIdempotencyKey(&header)
		if err != nil {
			return
		}
		if len(key) < 1 || len(key) > 255 {
			t.Fatalf("a key of %d bytes", len(key))
		}
		for i := range len(key) {
			if key[i] <= ' ' || key[i] >= 0x7f {
				t.Fatalf("the key %q is not visible ASCII", key)
			}
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, err := parseIdempotencyKey(&quoted); err != nil || again != key {
			t.Fatalf("%q is the key %q, quoted it is %q, %v", header, key, again, err)
		}
	})
}

func TestFingerprintsTellRequestsApart(t *testing.T) {
	three, four := int64(3), int64(4)
	kinds := []ifMatch{{}, {given: true}, {given: true, revision: &three}, {given: true, revision: &four}}
	seen := map[[32]byte]string{}
	for _, method := range []string{"POST", "DELETE"} {
		for _, path := range []string{"/flows", "/batch"} {
			for i, match := range kinds {
				for _, body := range []string{"", "{}", "{ }"} {
					name := strings.Join([]string{method, path, strconv.Itoa(i), body}, "|")
					sum := fingerprint(method, path, match, []byte(body))
					if other, taken := seen[sum]; taken {
						t.Errorf("%s and %s have one fingerprint", name, other)
					}
					seen[sum] = name
				}
			}
		}
	}
	if answerKey("ab", "c") == answerKey("a", "bc") {
		t.Error("two callers share a key")
	}
}

func TestStoredRepliesComeBack(t *testing.T) {
	for _, r := range []reply{
		{status: 201, contentType: "application/json", etag: `"0"`, location: "/flows/x", body: []byte("{\"a\":\"b\"}\n\n")},
		{status: 200, contentType: "application/json", body: []byte{}},
	} {
		back, err := decodeReply(r.encode())
		r.replayed = true
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	}
	if _, err := decodeReply([]byte("no reply")); err == nil {
		t.Error("nonsense was read as a reply")
	}
}
