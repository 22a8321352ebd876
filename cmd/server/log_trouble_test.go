package main

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"taskflow/internal/servertest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// What goes wrong is logged with its cause, and a cause may hold what nobody must read. These tests use secrets while it
// goes wrong, and look for them in everything the server wrote.

const (
	databasePassword = "hunter2-password"
	sealingKey       = "c2VhbGluZy1rZXktMDEyMzQ1Njc4OTAxMjM0NTY3ODk="
)

// loud are the options of a server that is given secrets and logs all it can.
func loud(database string, args ...string) servertest.Options {
	o := withKeys(database, "TASKFLOW_LOG_LEVEL=debug", "TASKFLOW_SECRET_KEY="+sealingKey)
	o.Args = args
	return o
}

// wantNoSecrets looks for secrets in a server's log, which must have something to say.
func wantNoSecrets(t *testing.T, s *servertest.Server, said string, secrets ...string) {
	t.Helper()
	log := s.Log()
	if !strings.Contains(log, said) {
		t.Errorf("the log does not say %q:\n%s", said, log)
	}
	for _, secret := range append(secrets, databasePassword, sealingKey) {
		if at := strings.Index(log, secret); at >= 0 {
			t.Errorf("the log has %q:\n%.1000s", secret, log[max(0, at-500):])
		}
	}
}

// TestLog_HasNoSecretsWithoutADatabase starts servers whose PostgreSQL is not there, and whose password it does not take.
func TestLog_HasNoSecretsWithoutADatabase(t *testing.T) {
	t.Parallel()
	refusing, asked := refusingDatabase(t)
	for what, address := range map[string]string{"nobody there": servertest.FreeAddress(t), "a wrong password": refusing} {
		url := "postgres://kate:" + databasePassword + "@" + address + "/flows?sslmode=disable"
		waiting := servertest.Launch(t, loud(url))
		waiting.AwaitLog("waiting for the database")
		if code, _ := waiting.Stop(); code != 0 {
			t.Errorf("%s: stopped with code %d while it waits", what, code)
		}
		wantNoSecrets(t, waiting, "waiting for the database")

		serving := servertest.Launch(t, loud(url, "--no-auto-migrate"))
		serving.AwaitAnswer()
		key := "tfk_abcdefghijklmnop_" + strings.Repeat("S", 43)
		for _, path := range []string{"/readyz", "/flows"} {
			serving.Call(t, http.StatusServiceUnavailable, http.MethodGet, path, "", bearer(key)...)
		}
		serving.Call(t, http.StatusServiceUnavailable, http.MethodPost, "/flows", newFlow, append(bearer(key), "Idempotency-Key", "idempotency-secret")...)
		serving.Stop()
		wantNoSecrets(t, serving, `"problem":"unavailable"`, key, "idempotency-secret")

		r := servertest.Run(t, loud(url), "keys", "list", "--no-auto-migrate")
		if out := r.Stdout + r.Stderr; r.Code != 1 || strings.Contains(out, databasePassword) {
			t.Errorf("%s: keys list: %+v", what, r)
		}
	}
	if !asked.Load() {
		t.Error("no server has said its password")
	}
}

// refusingDatabase is the address of a PostgreSQL that asks for a password in plain text and takes none. asked says whether
// it was told the one of these tests.
func refusingDatabase(t *testing.T) (address string, asked *atomic.Bool) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	asked = &atomic.Bool{}
	go func() { // ends when the listener is closed
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			refuseConnection(conn, asked)
		}
	}()
	return listener.Addr().String(), asked
}

func refuseConnection(conn net.Conn, asked *atomic.Bool) {
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationCleartextPassword{})
	if backend.Flush() != nil || backend.SetAuthType(pgproto3.AuthTypeCleartextPassword) != nil {
		return
	}
	if told, err := backend.Receive(); err == nil {
		if password, is := told.(*pgproto3.PasswordMessage); is && password.Password == databasePassword {
			asked.Store(true)
		}
	}
	backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: `password authentication failed for user "kate"`})
	_ = backend.Flush()
}

// TestLog_HasNoSecretsInTrouble has the database refuse what is written, and then go away, while secrets are sent.
func TestLog_HasNoSecretsInTrouble(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		given, goAway := url, func() {}
		if !strings.HasPrefix(url, "sqlite:") {
			var r *relay
			r, given = newRelay(t, url, databasePassword)
			goAway = r.goAway
		}
		key, _ := makeKey(t, url, everything("marked-name")...)
		s := servertest.Start(t, loud(given))
		calls := troubledCalls(t, s, key)
		refuseWrites(t, url)
		send := func(status int) {
			for _, c := range calls {
				s.Call(t, status, http.MethodPost, c.path, c.body, c.header...)
			}
		}
		send(http.StatusInternalServerError)
		said := `"problem":"internal"`
		if goAway(); given != url {
			send(http.StatusServiceUnavailable)
			s.Call(t, http.StatusServiceUnavailable, http.MethodGet, "/readyz", "")
			said = `"problem":"unavailable"`
		}
		s.Stop()
		secrets := []string{"marked", key[len(key)-43:]}
		for _, c := range calls {
			if _, token, is := strings.Cut(c.path, "/callbacks/"); is {
				secrets = append(secrets, token)
			}
		}
		wantNoSecrets(t, s, said, secrets...)
	})
}

type troubledCall struct {
	path, body string
	header     []string
}

// troubledCalls are changes full of what is confidential, each of which writes; there is a flow for each.
func troubledCalls(t *testing.T, s *servertest.Server, key string) []troubledCall {
	t.Helper()
	const marked = `{"controller_id":"marked","goal":"marked","owner_session_key":"marked","mode":"mirrored","state":{"marked":"marked"},"labels":{"marked":"marked"}}`
	as := append(bearer(key), "Idempotency-Key", "marked-key")
	running := s.As(key).Call(t, http.StatusCreated, http.MethodPost, "/flows", marked).Header.Get("Location")
	waiting := s.As(key).Call(t, http.StatusCreated, http.MethodPost, "/flows", marked).Header.Get("Location")
	var f struct{ Wait struct{ URL string } }
	wait := `{"wait":{"kind":"callback","verify":{"scheme":"github","secret":"marked-secret"}}}`
	if err := s.As(key).Call(t, http.StatusOK, http.MethodPost, waiting+"/wait", wait).Decode(&f); err != nil {
		t.Fatal(err)
	}
	callback := strings.TrimPrefix(f.Wait.URL, s.URL)
	const payload = `{"marked":"marked"}`
	return []troubledCall{
		{"/flows", marked, as},
		{running + "/state", `{"patch":{"marked":"marked"}}`, as},
		{running + "/fail", `{"reason":"marked"}`, slices.Clone(bearer(key))},
		{"/external-events", `{"topic":"marked","correlation_id":"marked","payload":"marked"}`, as},
		{callback, payload, []string{"X-Hub-Signature-256", "sha256=" + githubSignature("marked-secret", payload)}},
	}
}

// refuseWrites has the database refuse every row of the trail and every external event from now on, by a message that is not
// the caller's fault.
func refuseWrites(t *testing.T, url string) {
	t.Helper()
	db := servertest.OpenDatabase(t, url)
	for _, table := range []string{"events", "external_events"} {
		statement := fmt.Sprintf("alter table %s add constraint refused_%s check (false) not valid", table, table)
		if strings.HasPrefix(url, "sqlite:") {
			statement = fmt.Sprintf("create trigger refused_%s before insert on %s begin select raise(abort, 'refused'); end", table, table)
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}
