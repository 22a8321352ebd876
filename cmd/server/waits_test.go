package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// wait makes a flow that waits; condition are the members of the wait. It returns the flow's id and, where it waits for a
// callback, the URL.
func wait(t *testing.T, c *servertest.Client, condition string) (id, url string) {
	t.Helper()
	id = c.Create(t, `"mode": "mirrored"`).ID
	var f struct{ Wait struct{ URL string } }
	if err := c.Call(t, http.StatusOK, http.MethodPost, "/flows/"+id+"/wait", `{"wait": {`+condition+`}}`).Decode(&f); err != nil {
		t.Fatal(err)
	}
	return id, f.Wait.URL
}

func TestStart_PublicURL(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"": "", "https://flows.example.com": "https://flows.example.com", "http://example.com:81/below/": "http://example.com:81/below",
	} {
		o := servertest.Options{Database: servertest.SQLite(t)}
		if given != "" {
			o.Env = []string{"TASKFLOW_PUBLIC_URL=" + given}
		}
		s := servertest.Start(t, o)
		if want == "" {
			want = s.URL
		}
		if _, url := wait(t, s.Client, `"kind": "callback"`); !strings.HasPrefix(url, want+"/callbacks/") {
			t.Errorf("TASKFLOW_PUBLIC_URL=%q: a callback's URL is %q, want it below %s", given, url, want)
		}
	}
}

func TestPublicURL_OfAllAddresses(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080", ":80": "http://localhost:80", "0.0.0.0:1": "http://localhost:1",
		"[::]:1": "http://localhost:1", "[::1]:1": "http://[::1]:1", "server.example:1": "http://server.example:1",
	} {
		if got := (&serveCommand{Listen: listen}).publicURL(); got != want {
			t.Errorf("listening on %s: %s, want %s", listen, got, want)
		}
	}
}

func TestStart_TimerMaxHorizon(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_TIMER_MAX_HORIZON=PT1H"}})
	id := s.Create(t, `"mode": "mirrored"`).ID
	for _, beyond := range []string{`{"kind": "timer", "after": "PT61M"}`, `{"kind": "manual", "timeout": {"after": "PT61M", "on_timeout": "fail"}}`} {
		answer := s.Call(t, http.StatusUnprocessableEntity, http.MethodPost, "/flows/"+id+"/wait", `{"wait": `+beyond+`}`)
		if got := answer.Problem(); got != "invalid-value" {
			t.Errorf("%s: problem %q, want invalid-value", beyond, got)
		}
	}
	s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+id+"/wait", `{"wait": {"kind": "timer", "after": "PT59M"}}`)
}

func TestStart_RetainTerminal(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"0", "P30D", "PT1H"} {
		servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_RETAIN_TERMINAL=" + value}}).Create(t)
	}
}

// TestStart_HidesTheSecretKey gives the key in every way that is refused, and looks for it where it is accepted.
func TestStart_HidesTheSecretKey(t *testing.T) {
	t.Parallel()
	const key = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=" // 32 bytes
	for _, value := range []string{"hunter2", key + "x", key[:8], strings.TrimRight(key, "=")} {
		for _, o := range []servertest.Options{{Env: []string{"TASKFLOW_SECRET_KEY=" + value}}, {Args: []string{"--secret-key", value}}} {
			o.Database = elsewhere
			r := servertest.Run(t, o, append([]string{"serve", "--log-level=debug"}, o.Args...)...)
			if out := r.Stdout + r.Stderr; r.Code != 1 || strings.Contains(out, value) || !strings.Contains(out, "TASKFLOW_SECRET_KEY") {
				t.Errorf("a bad key: %+v, want code 1, the variable's name and not the value", r)
			}
		}
	}
	o := servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_SECRET_KEY=" + key, "TASKFLOW_LOG_LEVEL=debug"}}
	if r := servertest.Run(t, o, "serve", "--help"); r.Code != 0 || strings.Contains(r.Stdout+r.Stderr, key) {
		t.Errorf("--help shows the key: %+v", r)
	}
	s := servertest.Start(t, o)
	s.Create(t)
	s.Stop()
	if strings.Contains(s.Log(), key) {
		t.Error("the log shows the key")
	}
}

// TestSecretKey_KeepsSecretsFromTheDatabase looks for a callback's secret in what is on the disk.
func TestSecretKey_KeepsSecretsFromTheDatabase(t *testing.T) {
	t.Parallel()
	const secret = "the-secret-of-a-sender"
	verified := fmt.Sprintf(`"kind": "callback", "verify": {"scheme": "github", "secret": %q}`, secret)
	for _, sealed := range []bool{false, true} {
		o := servertest.Options{Database: servertest.SQLite(t)}
		if sealed {
			o.Env = []string{"TASKFLOW_SECRET_KEY=" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))}
		}
		s := servertest.Start(t, o)
		id, _ := wait(t, s.Client, verified)
		for _, path := range []string{"/flows/" + id, "/flows/" + id + "/wait", "/flows/" + id + "/events", "/flows"} {
			if answer := s.Call(t, http.StatusOK, http.MethodGet, path, ""); strings.Contains(string(answer.Body), secret) {
				t.Errorf("GET %s shows the secret", path)
			}
		}
		s.Stop()
		if found := onDisk(t, o.Database, secret); found == sealed {
			t.Errorf("with a key %v: the secret is in the database: %v", sealed, found)
		}
	}
}

func onDisk(t *testing.T, url, text string) bool {
	path := strings.TrimPrefix(url, "sqlite:")
	for _, file := range []string{path, path + "-wal"} {
		content, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if strings.Contains(string(content), text) {
			return true
		}
	}
	return false
}

func TestPrune(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		s := servertest.Start(t, servertest.Options{Database: url})
		ended := func(age time.Duration) string {
			id := s.Create(t).ID
			s.Call(t, http.StatusCreated, http.MethodPut, "/flows/"+id+"/steps/one", `{"task": "t", "status": "succeeded"}`)
			s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+id+"/cancel", "")
			if age > 0 {
				servertest.Age(t, url, id, age)
			}
			return id
		}
		const day = 24 * time.Hour
		old := []string{ended(30*day + time.Hour), ended(31 * day), ended(400 * day)}
		kept := []string{ended(0), ended(29 * day), ended(30*day - time.Hour), s.Create(t).ID}
		waiting, _ := wait(t, s.Client, `"kind": "manual"`)
		kept = append(kept, waiting)

		prune := func(want string, args ...string) {
			t.Helper()
			r := servertest.Run(t, servertest.Options{Database: url}, append([]string{"prune"}, args...)...)
			if r.Code != 0 || r.Stdout != want {
				t.Errorf("prune %q: %+v, want %q", args, r, want)
			}
		}
		prune("would erase 3 flows\n", "--older-than", "P30D", "--dry-run")
		for _, id := range append(old, kept...) {
			s.Flow(t, id)
		}
		prune("erased 3 flows\n", "--older-than=P30D")
		prune("erased 0 flows\n", "--older-than=P30D")
		for _, id := range kept {
			s.Flow(t, id)
		}
		for _, id := range old {
			for _, path := range []string{"", "/steps", "/events"} {
				s.Call(t, http.StatusNotFound, http.MethodGet, "/flows/"+id+path, "")
			}
		}
		events, err := servertest.All[servertest.Event](s.Client, "/events")
		for _, e := range events {
			if err != nil || strings.Contains(strings.Join(old, " "), e.FlowID) {
				t.Errorf("the feed has an event of an erased flow: %+v, %v", e, err)
			}
		}
	})
}

// TestPrune_Batches erases more than one transaction does.
func TestPrune_Batches(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		s := servertest.Start(t, servertest.Options{Database: url})
		for range 3 {
			commands := strings.Repeat(`, {"method": "POST", "path": "/flows", "body": {"controller_id": "c", "goal": "g", "owner_session_key": "o"}}`, pruneBatch)
			s.Call(t, http.StatusOK, http.MethodPost, "/batch", `{"commands": [`+commands[2:]+`]}`)
		}
		end := "update flows set status = 'cancelled', ended_at = created_at"
		if _, err := servertest.OpenDatabase(t, url).ExecContext(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		young := s.Create(t).ID
		s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+young+"/start", "")
		r := servertest.Run(t, servertest.Options{Database: url}, "prune", "--older-than=PT0.001S")
		if want := fmt.Sprintf("erased %d flows\n", 3*pruneBatch); r.Code != 0 || r.Stdout != want {
			t.Errorf("prune: %+v, want %q", r, want)
		}
		s.Flow(t, young)
	})
}

func TestPrune_BadAges(t *testing.T) {
	t.Parallel()
	o := servertest.Options{Database: servertest.SQLite(t)}
	for _, args := range [][]string{
		{"prune"}, {"prune", "--older-than"}, {"prune", "--older-than=30d"}, {"prune", "--older-than=0"}, {"prune", "--older-than=P0D"},
		{"prune", "--older-than=-P30D"}, {"prune", "--older-than=P1M"},
	} {
		if r := servertest.Run(t, o, args...); r.Code != 1 || !strings.Contains(r.Stderr, "--older-than") {
			t.Errorf("%q: %+v, want code 1 and the flag's name", args, r)
		}
	}
}

func TestRotateCallbackKey(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		s := servertest.Start(t, servertest.Options{Database: url})
		_, first := wait(t, s.Client, `"kind": "callback"`)
		_, second := wait(t, s.Client, `"kind": "callback"`)
		r := servertest.Run(t, servertest.Options{Database: url}, "rotate-callback-key")
		var key string
		if n, err := fmt.Sscanf(r.Stdout, "made callback key %s\n", &key); n != 1 || err != nil || r.Code != 0 || len(key) != 8 {
			t.Fatalf("rotate-callback-key: %+v, want code 0 and the new key's id", r)
		}
		if strings.HasPrefix(token(first), key) {
			t.Errorf("the new key is the old one: %s", key)
		}
		answer := s.Call(t, http.StatusOK, http.MethodPost, strings.TrimPrefix(first, s.URL), `{"a": 1}`)
		if !strings.Contains(string(answer.Body), `"resumed"`) {
			t.Errorf("a URL of the old key was answered with %s", answer.Body)
		}
		// A key signs once it has settled; here it is made older than that, and read at the next start.
		db := servertest.OpenDatabase(t, url)
		older := map[bool]string{
			true:  "UPDATE callback_keys SET created_at = created_at - 60 * 1000000",
			false: "update callback_keys set created_at = created_at - interval '60 s'",
		}[strings.HasPrefix(url, "sqlite:")]
		if _, err := db.ExecContext(t.Context(), older); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		s.Restart()
		_, third := wait(t, s.Client, `"kind": "callback"`)
		if !strings.HasPrefix(token(third), key) {
			t.Errorf("a new wait's URL is %s, want it signed by the key %s", third, key)
		}
		for _, url := range []string{second, third} {
			s.Call(t, http.StatusOK, http.MethodPost, strings.TrimPrefix(url, s.URL), "")
		}
		var keys int
		if err := db.QueryRowContext(t.Context(), "select count(*) from callback_keys").Scan(&keys); err != nil || keys != 2 {
			t.Errorf("%d keys, %v; want the first and the new one, whatever starts and stops", keys, err)
		}
	})
}

// token is the last part of a callback's URL, which begins with the key's id.
func token(url string) string { return url[strings.LastIndex(url, "/")+1:] }
