package main

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

func TestCheckListen(t *testing.T) {
	for _, c := range []struct {
		address string
		allowed bool
		ok      bool
	}{
		{"127.0.0.1:8080", false, true},
		{"127.0.0.2:0", false, true},
		{"127.255.255.254:8080", false, true},
		{"[::1]:8080", false, true},
		{"[::ffff:127.0.0.1]:8080", false, true},
		{"localhost:8080", false, true},
		{":8080", false, false},
		{"0.0.0.0:8080", false, false},
		{"[::]:8080", false, false},
		{"[::ffff:0.0.0.0]:8080", false, false},
		{"10.1.2.3:8080", false, false},
		{"[fe80::1]:8080", false, false},
		{"128.0.0.1:8080", false, false},
		{"server.example:8080", false, false},
		{"localhost.example:8080", false, false},
		{"127.0.0.1.example:8080", false, false},
		{":8080", true, true},
		{"0.0.0.0:8080", true, true},
		{"[::]:8080", true, true},
		{"server.example:8080", true, true},
		{"", true, false},
		{"127.0.0.1", true, false},
		{"::1:8080", true, false},
	} {
		err := checkListen(c.address, authentication{}, c.allowed)
		if (err == nil) != c.ok {
			t.Errorf("checkListen(%q, none, %v) = %v, want ok %v", c.address, c.allowed, err, c.ok)
		}
		if err != nil && !strings.Contains(err.Error(), "TASKFLOW_LISTEN") {
			t.Errorf("checkListen(%q, none, %v) = %v, want the variable's name in it", c.address, c.allowed, err)
		}
		if _, _, bad := net.SplitHostPort(c.address); bad != nil {
			continue
		}
		for _, on := range []authentication{{keys: true}, {tokens: true}, {true, true}} {
			if err := checkListen(c.address, on, c.allowed); err != nil {
				t.Errorf("checkListen(%q, %+v, %v) = %v, want any address to do", c.address, on, c.allowed, err)
			}
		}
	}
}

func TestAuthentication_Words(t *testing.T) {
	for text, want := range map[string]authentication{"none": {}, "keys": {keys: true}, "jwt": {tokens: true}, "keys,jwt": {true, true}, "jwt,keys": {true, true}} {
		got := authentication{true, true}
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "key", "none,keys", "keys,", "keys,keys", "keys, jwt", "KEYS"} {
		if err := new(authentication).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// elsewhere is a database that no server gets past: whatever a start does before it opens the database can be told from
// what it does later, and no server ever listens.
const elsewhere = "sqlite:/dev/null/taskflow.db"

func TestStart_RefusesToListenForStrangers(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:8080", "[::]:8080", ":8080", "server.example:8080"} {
		open := servertest.Options{Database: elsewhere, Env: []string{"TASKFLOW_LISTEN=" + address}}
		r := servertest.Run(t, open)
		if r.Code != 1 || !strings.Contains(r.Stderr, "TASKFLOW_LISTEN") || !strings.Contains(r.Stderr, "TASKFLOW_ALLOW_UNAUTHENTICATED") {
			t.Errorf("TASKFLOW_LISTEN=%s: %+v, want a refusal that says how to go on", address, r)
		}
		open.Env = append(open.Env, "TASKFLOW_ALLOW_UNAUTHENTICATED=true")
		if r := servertest.Run(t, open); r.Code != 1 || strings.Contains(r.Stderr, "TASKFLOW_LISTEN") {
			t.Errorf("TASKFLOW_LISTEN=%s, allowed: %+v, want it to come as far as the database", address, r)
		}
	}
}

// TestStart_RefusesAddressesThatAreNone holds that no database is opened for them, and a typing error is not found after it
// was migrated.
func TestStart_RefusesAddressesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"TASKFLOW_LISTEN", "TASKFLOW_METRICS_LISTEN"} {
		for _, address := range []string{"9090", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:nonsense"} {
			r := servertest.Run(t, servertest.Options{Database: elsewhere, Env: []string{name + "=" + address}})
			if r.Code != 1 || !strings.Contains(r.Stderr, name) || !strings.Contains(r.Stderr, address) {
				t.Errorf("%s=%s: %+v, want code 1, the variable's name and its value", name, address, r)
			}
		}
	}
}

func TestStart_NamesBadValues(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"TASKFLOW_LISTEN=8080", "TASKFLOW_LISTEN=", "TASKFLOW_LISTEN=127.0.0.1:99999",
		"TASKFLOW_DATABASE_URL=", "TASKFLOW_DATABASE_URL=mysql://localhost/x", "TASKFLOW_DATABASE_URL=sqlite:",
		"TASKFLOW_DATABASE_URL=sqlite::memory:", "TASKFLOW_DATABASE_URL=postgres://localhost:no/x",
		"TASKFLOW_DATABASE_URL=postgres://localhost/x?sslmode=perhaps", "TASKFLOW_DATABASE_URL=postgres://localhost/x?default_query_exec_mode=exec",
		"TASKFLOW_NO_AUTO_MIGRATE=perhaps",
		"TASKFLOW_AUTH=somehow", "TASKFLOW_ALLOW_UNAUTHENTICATED=perhaps", "TASKFLOW_REQUIRE_IF_MATCH=perhaps",
		"TASKFLOW_MAX_BODY=big", "TASKFLOW_MAX_BODY=0", "TASKFLOW_MAX_BODY=-1", "TASKFLOW_MAX_BODY=2GiB", "TASKFLOW_MAX_BODY=",
		"TASKFLOW_MAX_STATE=big", "TASKFLOW_MAX_STATE=0",
		"TASKFLOW_IDEMPOTENCY_TTL=24h", "TASKFLOW_IDEMPOTENCY_TTL=PT0S", "TASKFLOW_IDEMPOTENCY_TTL=P1M", "TASKFLOW_IDEMPOTENCY_TTL=-P1D",
		"TASKFLOW_CORS_ORIGINS=example.com", "TASKFLOW_CORS_ORIGINS=https://example.com/path",
		"TASKFLOW_CORS_ORIGINS=*", "TASKFLOW_CORS_ORIGINS=https://*", "TASKFLOW_CORS_ORIGINS=https://a.example,https://*.b.example",
		"TASKFLOW_LOG_FORMAT=xml", "TASKFLOW_LOG_LEVEL=loud",
		"TASKFLOW_PUBLIC_URL=flows.example.com", "TASKFLOW_PUBLIC_URL=ftp://flows.example.com", "TASKFLOW_PUBLIC_URL=https://",
		"TASKFLOW_PUBLIC_URL=https://flows.example.com/?a=b", "TASKFLOW_PUBLIC_URL=https://flows.example.com/#a",
		"TASKFLOW_TIMER_MAX_HORIZON=366d", "TASKFLOW_TIMER_MAX_HORIZON=PT0S", "TASKFLOW_TIMER_MAX_HORIZON=P1Y", "TASKFLOW_TIMER_MAX_HORIZON=",
		"TASKFLOW_SECRET_KEY=secret", "TASKFLOW_SECRET_KEY=", "TASKFLOW_SECRET_KEY=c2hvcnQ=",
		"TASKFLOW_RETAIN_TERMINAL=30", "TASKFLOW_RETAIN_TERMINAL=-P30D", "TASKFLOW_RETAIN_TERMINAL=P1M", "TASKFLOW_RETAIN_TERMINAL=PT0S",
		"TASKFLOW_AUTH=none,keys", "TASKFLOW_AUTH=", "TASKFLOW_JWT_OWNER_CLAIM=",
		"TASKFLOW_RATE_LIMIT=fast", "TASKFLOW_RATE_LIMIT=0", "TASKFLOW_RATE_LIMIT=NaN", "TASKFLOW_RATE_BURST=0", "TASKFLOW_MAX_STREAMS=-1", "TASKFLOW_MAX_OPEN_FLOWS=0",
		"TASKFLOW_MAX_HEADER=1KiB", "TASKFLOW_MAX_CONNECTIONS=0", "TASKFLOW_HEADER_TIMEOUT=10s", "TASKFLOW_BODY_TIMEOUT=PT0S", "TASKFLOW_WRITE_TIMEOUT=P1M", "TASKFLOW_IDLE_TIMEOUT=",
		"TASKFLOW_REQUEST_TIMEOUT=30", "TASKFLOW_REQUEST_TIMEOUT=PT0S", "TASKFLOW_REQUEST_TIMEOUT=PT1M", "TASKFLOW_STREAM_TIMEOUT=", "TASKFLOW_STREAM_TIMEOUT=PT0S", "TASKFLOW_MAX_ALL_STREAMS=0", "TASKFLOW_MAX_ALL_STREAMS=", "TASKFLOW_MAX_ALL_STREAMS=10000", "TASKFLOW_MAX_CONNECTIONS=1",
		"TASKFLOW_LISTEM=127.0.0.1:8080", "TASKFLOW_=x", "TASKFLOW_SERVICES=x",
	} {
		name, _, _ := strings.Cut(entry, "=")
		o := servertest.Options{Database: servertest.SQLite(t), Env: []string{entry}}
		r := servertest.Run(t, o)
		if r.Code != 1 || !strings.Contains(r.Stderr, name) {
			t.Errorf("%s: %+v, want code 1 and the variable's name", entry, r)
		}
	}
}

// TestStart_WantsAnIssuerItCanTrust tries what does not suffice for JWTs.
func TestStart_WantsAnIssuerItCanTrust(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ issuer, audience, named string }{
		{"", "a", "TASKFLOW_JWT_ISSUER"}, {"https://issuer.example.com", "", "TASKFLOW_JWT_AUDIENCE"}, {"http://issuer.example.com", "a", "TASKFLOW_JWT_ISSUER"},
		{"issuer.example.com", "a", "TASKFLOW_JWT_ISSUER"}, {"https://user:hunter2@issuer.example.com", "a", "TASKFLOW_JWT_ISSUER"}, {"https://issuer.example.com?x=y", "a", "TASKFLOW_JWT_ISSUER"},
	} {
		r := servertest.Run(t, servertest.Options{Database: elsewhere, Env: []string{"TASKFLOW_AUTH=jwt", "TASKFLOW_JWT_ISSUER=" + c.issuer, "TASKFLOW_JWT_AUDIENCE=" + c.audience}})
		if r.Code != 1 || !strings.Contains(r.Stderr, c.named) || strings.Contains(r.Stderr, "hunter2") {
			t.Errorf("%+v: %+v, want the variable's name", c, r)
		}
	}
}

// TestStart_ServesItsOwnHostsOnly asks a server without authentication as a page would whose name resolves to this machine.
func TestStart_ServesItsOwnHostsOnly(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{
		"TASKFLOW_PUBLIC_URL=https://flows.example/base", "TASKFLOW_CORS_ORIGINS=http://board.example:3000",
	}})
	_, port, _ := net.SplitHostPort(s.Address())
	for host, want := range map[string]int{
		s.Address(): 200, "localhost:" + port: 200, "LOCALHOST": 200, "localhost.": 200, "127.0.0.2": 200, "[::1]:" + port: 200, "[::1]": 200, "flows.example": 200,
		"Flows.Example:443": 200, "board.example:3000": 200,
		"evil.example": 403, "evil.example:" + port: 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403, "10.1.2.3": 403, "0.0.0.0": 403, "xflows.example": 403, "[::2]": 403,
	} {
		for _, call := range []struct{ method, path, body string }{
			{"GET", "/flows", ""}, {"POST", "/flows", newFlow}, {"GET", "/stats", ""}, {"GET", "/metrics", ""},
		} {
			request, err := http.NewRequestWithContext(t.Context(), call.method, s.URL+call.path, strings.NewReader(call.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Host = host
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Sec-Fetch-Site", "same-origin")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if got := response.StatusCode; got != want && !(got == http.StatusCreated && want == http.StatusOK) {
				t.Errorf("%s %s for %s: %d, want %d", call.method, call.path, host, got, want)
			}
		}
	}
}

func TestOnlyHosts_WhereNobodyElseLooks(t *testing.T) {
	for what, access := range map[string]authConfig{"keys": {Auth: authentication{keys: true}}, "tokens": {Auth: authentication{tokens: true}}, "something in front": {AllowUnauthenticated: true}} {
		if hosts := (&serveCommand{Access: access, Listen: "127.0.0.1:8080"}).onlyHosts(); hosts != nil {
			t.Errorf("with %s: %q, want any host to do", what, hosts)
		}
	}
	if hosts := (&serveCommand{Listen: "127.0.0.1:8080"}).onlyHosts(); len(hosts) != 1 {
		t.Errorf("with none of them: %q", hosts)
	}
}

func TestStart_NamesBadFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--no-such-flag"}, {"serve", "--max-body=big"}, {"--max-body=big"}, {"--listen"}, {"migrate", "--to=x"},
	} {
		flag, _, _ := strings.Cut(args[len(args)-1], "=")
		r := servertest.Run(t, servertest.Options{Database: elsewhere}, args...)
		if r.Code != 1 || !strings.Contains(r.Stderr, flag) {
			t.Errorf("%q: %+v, want code 1 and the flag's name", args, r)
		}
	}
}

// TestStart_HidesPasswords tries URLs that are wrong in ways that make it hard to tell which part is the password.
func TestStart_HidesPasswords(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"mysql://user:hunter2@host/x", "hunter2", "postgres://user:hunter2", "postgres://user:hunter2@host:port/x",
		"postgres://user:a@hunter2@host/x?sslmode=perhaps", "postgres://user:a/hunter2@host/x", "postgres://user:a b/hunter2@host/x",
		"postgres://user:a%hunter2@host/x", "postgres://user:hunter2@h1:1,h2:2/x?sslmode=perhaps",
		"postgres://host/x?password=hunter2&sslmode=perhaps", "postgres://user:hunter2@host/x?pool_max_conns=many",
		"host=localhost password=hunter2",
	} {
		for _, o := range []servertest.Options{
			{Env: []string{"TASKFLOW_DATABASE_URL=" + url}},
			{Args: []string{"--database-url", url}},
		} {
			r := servertest.Run(t, o, append(o.Args, "serve", "--log-level=debug")...)
			if out := r.Stdout + r.Stderr; r.Code != 1 || strings.Contains(out, "hunter2") || !strings.Contains(out, "TASKFLOW_DATABASE_URL") {
				t.Errorf("%s: %+v, want code 1, the variable's name and no password", url, r)
			}
		}
	}
}

func TestStart_AcceptsWhatKubernetesSets(t *testing.T) {
	t.Parallel()
	servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{
		"TASKFLOW_SERVICE_HOST=10.0.0.1", "TASKFLOW_SERVICE_PORT=80", "TASKFLOW_SERVICE_PORT_HTTP=80", "TASKFLOW_PORT=tcp://10.0.0.1:80",
		"TASKFLOW_PORT_80_TCP=tcp://10.0.0.1:80", "TASKFLOW_PORT_80_TCP_PROTO=tcp",
	}})
}

func TestStart_FlagsOverrideTheEnvironment(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{
		Database: elsewhere,
		Env:      []string{"TASKFLOW_MAX_BODY=1MiB", "TASKFLOW_LOG_FORMAT=text", "TASKFLOW_REQUIRE_IF_MATCH=true"},
		Args:     []string{"--database-url", servertest.SQLite(t), "--max-body=1KiB", "--log-format=json"},
	})
	large := `{"controller_id": "c", "owner_session_key": "o", "goal": "` + strings.Repeat("g", 1024) + `"}`
	s.Call(t, http.StatusRequestEntityTooLarge, http.MethodPost, "/flows", large)
	flow := s.Create(t)
	answer := s.Call(t, http.StatusPreconditionRequired, http.MethodPost, "/flows/"+flow.ID+"/start", "")
	if got := answer.Problem(); got != "precondition-required" {
		t.Errorf("problem %q, want the variable that no flag overrides to hold", got)
	}
	s.AwaitLog("listening")
	if log := s.Log(); !strings.HasPrefix(log, "{") {
		t.Errorf("the log is not JSON:\n%s", log)
	}
}

func TestStart_LogFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"": `{"time":`, "auto": `{"time":`, "json": `{"time":`, "text": "time="} {
		o := servertest.Options{Database: servertest.SQLite(t)}
		if format != "" {
			o.Env = []string{"TASKFLOW_LOG_FORMAT=" + format}
		}
		s := servertest.Start(t, o)
		s.AwaitLog("listening")
		if log := s.Log(); !strings.HasPrefix(log, want) {
			t.Errorf("format %q: the log is %q, want lines that begin with %q", format, log, want)
		}
	}
}

func TestStart_LogLevel(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_LOG_LEVEL=error"}})
	s.Create(t)
	s.Stop()
	if log := s.Log(); log != "" {
		t.Errorf("at level error the log has %q", log)
	}
}

func TestStart_PortInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, name := range []string{"TASKFLOW_LISTEN", "TASKFLOW_METRICS_LISTEN"} {
		o := servertest.Options{Database: servertest.SQLite(t), Env: []string{name + "=" + listener.Addr().String()}}
		r := servertest.Run(t, o)
		for _, want := range []string{name + ":", listener.Addr().String(), "address already in use"} {
			if r.Code != 1 || !strings.Contains(r.Stderr, want) {
				t.Errorf("%+v, want code 1 and %q", r, want)
			}
		}
	}
}
