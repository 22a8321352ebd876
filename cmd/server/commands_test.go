package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskflow/api"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
	"taskflow/internal/sqlite"

	"github.com/google/uuid"
)

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--help"}, {"-h"}, {"serve", "--help"}, {"migrate", "--help"}, {"healthcheck", "--help"}, {"openapi", "--help"},
		{"prune", "--help"}, {"rotate-callback-key", "--help"}, {"keys", "--help"}, {"keys", "create", "--help"}, {"keys", "list", "--help"}, {"keys", "revoke", "--help"},
	} {
		// The variable is one that an error at start sends to --help for.
		r := servertest.Run(t, servertest.Options{Env: []string{"TASKFLOW_NO_SUCH=1"}}, args...)
		if r.Code != 0 || r.Stderr != "" || !strings.HasPrefix(r.Stdout, "Usage: server") {
			t.Errorf("%q: %+v, want usage and code 0", args, r)
		}
	}
}

// TestHelp_OfServeHasEveryVariable follows what an unknown variable is answered with.
func TestHelp_OfServeHasEveryVariable(t *testing.T) {
	refused := servertest.Run(t, servertest.Options{Env: []string{"TASKFLOW_NO_SUCH=1"}})
	if refused.Code != 1 || !strings.Contains(refused.Stderr, "TASKFLOW_NO_SUCH") || !strings.Contains(refused.Stderr, "server serve --help") {
		t.Errorf("an unknown variable: %+v, want code 1, its name and where the known ones are", refused)
	}
	_, model := parsed(t)
	help := strings.Join(strings.Fields(servertest.Run(t, servertest.Options{}, "serve", "--help").Stdout), "")
	for name := range knownVariables(model) {
		if !strings.Contains(help, "($"+name+")") {
			t.Errorf("serve --help leaves out %s", name)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	r := servertest.Run(t, servertest.Options{}, "openapi")
	if r.Code != 0 || r.Stdout != string(api.Spec) {
		t.Errorf("openapi: code %d, %d bytes, want the contract's %d", r.Code, len(r.Stdout), len(api.Spec))
	}
	r = servertest.Run(t, servertest.Options{}, "openapi", "--json")
	var doc struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal([]byte(r.Stdout), &doc); r.Code != 0 || err != nil || doc.OpenAPI == "" || doc.Paths["/flows"] == nil {
		t.Errorf("openapi --json: code %d, error %v, version %q, %d paths", r.Code, err, doc.OpenAPI, len(doc.Paths))
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	latest := map[string]int64{"sqlite": sqlite.LatestVersion(), "postgres": pg.LatestVersion()}
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		_, kind, _ := strings.Cut(t.Name(), "/")
		newest := latest[kind]
		o := servertest.Options{Database: url, Env: []string{"TASKFLOW_LOG_FORMAT=text"}}
		for _, step := range []struct {
			args    []string
			version int64
		}{
			{[]string{"migrate", "--to", "1"}, 1},
			{[]string{"migrate"}, newest},
			{[]string{"migrate", "--to", "1"}, 1},
			{[]string{"migrate", "--no-auto-migrate"}, newest}, // the switch is for what migrates by itself
		} {
			r := servertest.Run(t, o, step.args...)
			if want := fmt.Sprintf("version=%d\n", step.version); r.Code != 0 || !strings.HasSuffix(r.Stderr, want) {
				t.Fatalf("%q: %+v, want code 0 and %q", step.args, r, want)
			}
		}
		for _, version := range []string{"99", "-1"} {
			if r := servertest.Run(t, o, "migrate", "--to="+version); r.Code != 1 || !strings.Contains(r.Stderr, version) {
				t.Errorf("migrate --to=%s: %+v, want code 1 and the version's number", version, r)
			}
		}
		servertest.Start(t, servertest.Options{Database: url, Args: []string{"--no-auto-migrate"}}).Create(t)
	})
}

func TestNoAutoMigrate(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		s := servertest.Launch(t, servertest.Options{Database: url, Env: []string{"TASKFLOW_NO_AUTO_MIGRATE=true"}})
		s.AwaitAnswer()
		answer := s.Call(t, http.StatusServiceUnavailable, http.MethodGet, "/readyz", "")
		if text := string(answer.Body); answer.Problem() != "unavailable" || !strings.Contains(text, "schema is at version 0; this server needs") {
			t.Errorf("/readyz: %s, want the version that is needed", text)
		}
		s.Call(t, http.StatusOK, http.MethodGet, "/livez", "")
		if r := servertest.Run(t, servertest.Options{Database: url}, "migrate"); r.Code != 0 {
			t.Fatalf("migrate beside the server: %+v", r)
		}
		s.AwaitReady(10 * time.Second)
		s.Create(t)
	})
}

func TestStart_SeveralAtOnceOnAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	servers := servertest.StartAll(t, servertest.Options{Database: pgtest.Empty(t)}, 3)
	flow := servers[0].Create(t)
	for _, s := range servers {
		s.Flow(t, flow.ID)
	}
}

// A server that leaves the schema to others says that it is unavailable, of every call, until the schema is there.
func TestStart_BeforeTheSchema(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		o := servertest.Options{Database: url, Args: []string{"--no-auto-migrate"}}
		s := servertest.Launch(t, o)
		s.AwaitAnswer()
		callback := "/callbacks/" + strings.Repeat("A", 84) // as long as a token; whether it is one, the keys would tell
		for _, call := range [][]string{
			{http.MethodGet, "/readyz"}, {http.MethodGet, "/flows"}, {http.MethodGet, "/flows/" + uuid.NewString()}, {http.MethodGet, "/events"},
			{http.MethodGet, "/stats"}, {http.MethodGet, "/external-events"},
			{http.MethodPost, "/flows", `{"controller_id": "c", "goal": "g", "owner_session_key": "o"}`},
			{http.MethodPost, "/flows/" + uuid.NewString() + "/start", ""},
			{http.MethodPost, "/external-events", `{"topic": "t", "correlation_id": "c"}`},
			{http.MethodGet, callback}, {http.MethodPost, callback, "{}"}, {http.MethodPost, callback + "/reject", "{}"},
		} {
			answer := s.Call(t, http.StatusServiceUnavailable, call[0], call[1], strings.Join(call[2:], ""))
			if answer.Problem() != "unavailable" || strings.Contains(string(answer.Body), "outcome_unknown") {
				t.Errorf("%s %s without a schema: %s", call[0], call[1], answer.Body)
			}
		}
		if r := servertest.Run(t, servertest.Options{Database: url}, "migrate"); r.Code != 0 {
			t.Fatalf("migrate: %+v", r)
		}
		s.AwaitReady(time.Minute)
		s.Create(t)
		s.Call(t, http.StatusNotFound, http.MethodPost, callback, "{}")
	})
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	s := servertest.Launch(t, servertest.Options{Database: servertest.SQLite(t), Args: []string{"--no-auto-migrate"}})
	s.AwaitAnswer()
	check := func() servertest.Result {
		return servertest.Run(t, servertest.Options{Env: []string{"TASKFLOW_LISTEN=" + s.Address()}}, "healthcheck")
	}
	if r := check(); r.Code != 1 || !strings.Contains(r.Stderr, "503") {
		t.Errorf("a server that is not ready: %+v, want code 1 and the status", r)
	}
	s.Stop()
	if r := check(); r.Code != 1 || !strings.Contains(r.Stderr, "not ready") {
		t.Errorf("no server: %+v, want code 1", r)
	}
	s = servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	if r := check(); r.Code != 0 || r.Stdout+r.Stderr != "" {
		t.Errorf("a ready server: %+v, want code 0 and not a word", r)
	}
	_, port, _ := strings.Cut(s.Address(), ":")
	if r := servertest.Run(t, servertest.Options{}, "healthcheck", "--listen=:"+port); r.Code != 0 {
		t.Errorf("a ready server, asked as one that listens on all addresses: %+v, want code 0", r)
	}
	if r := servertest.Run(t, servertest.Options{}, "healthcheck", "--listen=nonsense"); r.Code != 1 || !strings.Contains(r.Stderr, "TASKFLOW_LISTEN") {
		t.Errorf("an address that is none: %+v, want code 1 and the variable's name", r)
	}
}
