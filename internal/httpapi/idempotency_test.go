package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"

	"github.com/google/uuid"
)

// same fails the test unless an answer repeats the first one whole, marked as replayed.
func (a answer) same(first answer) {
	a.t.Helper()
	a.want(first.status).hasHeader("Idempotent-Replayed", "true")
	wantText(a.t, "replayed body", a.body, first.body)
	for _, name := range []string{"ETag", "Location", "Content-Type", "Content-Length"} {
		a.hasHeader(name, first.header.Get(name))
	}
}

// TestRepeatGetsTheFirstAnswer repeats every POST, at once and after the flow has moved on.
func TestRepeatGetsTheFirstAnswer(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for name, status := range changes {
			c := commands[name]
			if c.method != "POST" {
				continue
			}
			path := api.inStatus(status)
			send := func() answer { return api.post(path+c.path, c.body, "Idempotency-Key: "+name) }
			first := send().want(200).hasHeader("Idempotent-Replayed", "")
			before := api.snapshot()
			send().same(first)
			wantText(t, name, api.snapshot(), before)
			if name != "cancel" && name != "fail" && name != "finish" {
				api.post(path+"/cancel", "").want(200)
			}
			before = api.snapshot()
			send().same(first)
			wantText(t, name, api.snapshot(), before)
		}
		for i, body := range []string{createBody(""), createBody(`"mode":"mirrored"`), createBody(quoted("id") + ":" + quoted(uuid.NewString()))} {
			key := fmt.Sprintf("Idempotency-Key: create-%d", i)
			first := api.post("/flows", body, key).want(201)
			before := api.snapshot()
			api.post("/flows", body, key).same(first)
			wantText(t, body, api.snapshot(), before)
			api.post("/flows/"+first.flow().ID+"/cancel", "").want(200)
			api.erase("/flows/" + first.flow().ID).want(204)
			api.post("/flows", body, key).same(first) // what it made is gone; its answer stays
			api.get("/flows/"+first.flow().ID).problem(404, "not-found")
		}
	})
}

// TestKeyIsLookedUpBeforeIfMatch repeats a request after its answer was lost, and somebody else came in between.
func TestKeyIsLookedUpBeforeIfMatch(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.created("")
		first := api.post(path+"/start", "", "Idempotency-Key: k", `If-Match: "0"`).want(200)
		api.post(path+"/state", `{"goal":"g"}`).want(200)
		api.post(path+"/start", "", "Idempotency-Key: k", `If-Match: "0"`).same(first)
		api.post(path+"/start", "", "Idempotency-Key: k", `If-Match: W/"0"`).same(first) // a proxy weakened it
		api.refused(409, "revision-conflict", "POST", path+"/start", "", "Idempotency-Key: other", `If-Match: "0"`)
	})
}

func TestKeyBelongsToOneRequest(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path, other := api.running(""), api.running("")
		const body = `{"patch":{"a":1}}`
		first := api.post(path+"/state", body, "Idempotency-Key: k", `If-Match: "1"`).want(200)
		for _, c := range []struct{ path, body, match string }{
			{other + "/state", body, `"1"`},
			{path + "/finish", "", `"1"`},
			{path + "/state", `{"patch":{"a":2}}`, `"1"`},
			{path + "/state", `{"patch": {"a":1}}`, `"1"`}, // the bytes as received
			{path + "/state", body, `"2"`},
			{path + "/state", body, `*`},
		} {
			api.refused(422, "idempotency-key-reused", "POST", c.path, c.body, "Idempotency-Key: k", "If-Match: "+c.match)
		}
		api.refused(422, "idempotency-key-reused", "POST", path+"/state", body, "Idempotency-Key: k")
		api.refused(422, "idempotency-key-reused", "POST", "/flows", createBody(""), "Idempotency-Key: k")
		api.refused(422, "idempotency-key-reused", "POST", "/batch", batchOf(command("POST", "/flows", "")), "Idempotency-Key: k")
		api.post(path+"/state", body, "Idempotency-Key: k", `If-Match: "1"`).same(first)
	})
}

// TestFailuresAreNotStored repeats a refused request once it may succeed.
func TestFailuresAreNotStored(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.created("")
		const key = "Idempotency-Key: k"
		api.refused(409, "illegal-transition", "POST", path+"/finish", "", key)
		api.refused(400, "invalid-request", "POST", path+"/finish", "{", key)
		api.refused(422, "invalid-value", "POST", path+"/fail", `{"reason":""}`, key)
		api.refused(409, "revision-conflict", "POST", path+"/finish", "", key, `If-Match: "7"`)
		api.post(path+"/start", "").want(200)
		first := api.post(path+"/finish", "", key).want(200).hasHeader("Idempotent-Replayed", "")
		api.post(path+"/finish", "", key).same(first)

		id := uuid.NewString()
		api.refused(404, "not-found", "POST", "/flows/"+id+"/start", "", "Idempotency-Key: early")
		api.create(quoted("id") + ":" + quoted(id))
		api.post("/flows/"+id+"/start", "", "Idempotency-Key: early").want(200)
	})
}

func TestFormsOfAKey(t *testing.T) {
	bad := []string{"", `""`, `"`, `"a`, `"a"b"`, `"a"b`, `"a\"`, `"\a"`, "a b", `"a b"`, "a\tb", "ü", `"ü"`, strings.Repeat("x", 256), quoted(strings.Repeat("x", 256))}
	alike := [][]string{
		{"abc", `"abc"`}, {`a"b\c`, `"a\"b\\c"`}, {strings.Repeat("k", 255), quoted(strings.Repeat("k", 255))}, {"!#$%&'()*+,-./:;<=>?@[]^_`{|}~", "\"!#$%&'()*+,-./:;<=>?@[]^_`{|}~\""},
		{"x"}, {"X"}, // keys differ by case
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, key := range bad {
			api.refused(400, "invalid-request", "POST", "/flows", createBody(""), "Idempotency-Key: "+key).pointers("Idempotency-Key")
			api.refused(400, "invalid-request", "POST", "/batch", `{"commands":[{"method":"POST","path":"/flows"}]}`, "Idempotency-Key: "+key).pointers("Idempotency-Key")
		}
		api.refused(400, "invalid-request", "POST", "/flows", createBody(""), "Idempotency-Key: a", "Idempotency-Key: a").pointers("Idempotency-Key")
		for _, keys := range alike {
			first := api.post("/flows", createBody(""), "Idempotency-Key: "+keys[0]).want(201).hasHeader("Idempotent-Replayed", "")
			for _, key := range keys {
				api.post("/flows", createBody(""), "Idempotency-Key: "+key).same(first)
			}
		}
	})
}

// oneEffect fails the test unless the answers are one that took effect and its repeats.
func oneEffect(t testing.TB, answers []answer) {
	t.Helper()
	made := 0
	for _, a := range answers {
		if a.header.Get("Idempotent-Replayed") == "" {
			made++
		}
		if a.status != answers[0].status || a.body != answers[0].body || a.header.Get("ETag") != answers[0].header.Get("ETag") {
			t.Errorf("two answers: %d %s and %d %s", a.status, a.body, answers[0].status, answers[0].body)
		}
	}
	if made != 1 || answers[0].status/100 != 2 {
		t.Errorf("%d answers took effect: %d %s", made, answers[0].status, answers[0].body)
	}
}

// TestRepeatsAtOnceHaveOneEffect sends one request many times side by side.
func TestRepeatsAtOnceHaveOneEffect(t *testing.T) {
	const n = 16
	eachStore(t, func(t *testing.T, api *client) {
		oneEffect(t, atOnce(n, func(int) answer { return api.post("/flows", createBody(""), "Idempotency-Key: create") }))
		path := "/flows/" + api.get("/flows").flows()[0].ID
		oneEffect(t, atOnce(n, func(int) answer { return api.post(path+"/start", "", "Idempotency-Key: start") }))
		oneEffect(t, atOnce(n, func(int) answer {
			return api.post(path+"/state", `{"patch":{"a":1}}`, "Idempotency-Key: state", `If-Match: "1"`)
		}))
		batch := `{"commands":[{"method":"POST","path":"/flows","body":` + createBody("") + `},{"method":"POST","path":"` + path + `/finish"}]}`
		oneEffect(t, atOnce(n, func(int) answer { return api.post("/batch", batch, "Idempotency-Key: batch") }))
		wantText(t, "trail", api.kinds(path), "created 0, started 1, state_updated 2, finished 3")
		if found := api.get("/flows").flows(); len(found) != 2 {
			t.Errorf("%d flows, want 2", len(found))
		}
	})
}

// TestRepeatsAtTwoReplicasHaveOneEffect sends one request many times to two servers of one database.
func TestRepeatsAtTwoReplicasHaveOneEffect(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	var replicas []*client
	for range 2 {
		db, err := pg.Open(t.Context(), url, pg.Options{})
		if err != nil {
			t.Fatal(err)
		}
		replicas = append(replicas, serve(t, db, newSetup(nil)))
	}
	for round := range 5 {
		key := fmt.Sprintf("Idempotency-Key: k%d", round)
		answers := atOnce(16, func(i int) answer { return replicas[i%2].post("/flows", createBody(""), key) })
		oneEffect(t, answers)
		path := "/flows/" + answers[0].flow().ID
		oneEffect(t, atOnce(16, func(i int) answer { return replicas[i%2].post(path+"/start", "", key+"s") }))
		wantText(t, "trail", replicas[0].kinds(path), "created 0, started 1")
	}
	if found := replicas[1].get("/flows").flows(); len(found) != 5 {
		t.Errorf("%d flows, want 5", len(found))
	}
}

// TestRepeatAfterARestart repeats a request at a server that was started anew on the same database.
func TestRepeatAfterARestart(t *testing.T) {
	path := sqlitetest.File(t)
	var first answer
	t.Run("before", func(t *testing.T) {
		first = openSQLite(t, path).post("/flows", createBody(""), "Idempotency-Key: k").want(http.StatusCreated)
	})
	api := openSQLite(t, path)
	api.post("/flows", createBody(""), "Idempotency-Key: k").same(first)
	if found := api.get("/flows").flows(); len(found) != 1 {
		t.Errorf("%d flows, want 1", len(found))
	}
}

// TestAnswersExpire moves the clock to the end of the 24 hours, and past it.
func TestAnswersExpire(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Date(2026, 4, 23, 15, 0, 0, 0, time.UTC).UnixMicro())
	api := serveSQLite(t, func(s *setup) {
		s.sqlite = sqlite.Options{Now: func() time.Time { return time.UnixMicro(now.Load()) }}
	})
	send := func() answer { return api.post("/flows", createBody(""), "Idempotency-Key: k").want(201) }
	first := send()
	now.Add((24 * time.Hour).Microseconds() - 1)
	send().same(first)
	now.Add(1)
	second := send().hasHeader("Idempotent-Replayed", "")
	if second.body == first.body {
		t.Error("an expired answer was given once more")
	}
	send().same(second)
	api.refused(422, "idempotency-key-reused", "POST", "/flows", createBody(`"state":1`), "Idempotency-Key: k")
	now.Add((24 * time.Hour).Microseconds())
	api.post("/flows", createBody(`"state":1`), "Idempotency-Key: k").want(201) // the key is free for another request
}

// TestAnswersExpireByTheDatabasesClock has answers that are too old as soon as they are stored.
func TestAnswersExpireByTheDatabasesClock(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		first := api.post("/flows", createBody(""), "Idempotency-Key: k").want(201)
		second := api.post("/flows", createBody(`"state":1`), "Idempotency-Key: k").want(201).hasHeader("Idempotent-Replayed", "")
		if first.flow().ID == second.flow().ID {
			t.Error("an expired answer was given once more")
		}
	}, func(s *setup) { s.engine.AnswerTTL = time.Nanosecond })
}

// TestOnlyPostsTakeAKey sends one with the calls that repeat themselves well without.
func TestOnlyPostsTakeAKey(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.inStatus("finished")
		for _, status := range []int{201, 200} {
			api.put(path+"/steps/r", `{"task":"t","status":"running"}`, "Idempotency-Key: k").want(status).hasHeader("Idempotent-Replayed", "")
		}
		api.erase(path, "Idempotency-Key: k").want(204)
		api.erase(path, "Idempotency-Key: k").problem(404, "not-found")
		api.post("/flows", createBody(""), "Idempotency-Key: k").want(201)
	})
}
