package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"taskflow/internal/auth/authtest"
	"taskflow/internal/servertest"
)

var keyLine = regexp.MustCompile(`^tfk_[a-z2-7]{16}_[A-Za-z0-9_-]{43}\n$`)

// makeKey makes a key by the command line; it returns the key and its id.
func makeKey(t *testing.T, url string, args ...string) (key, id string) {
	t.Helper()
	r := servertest.Run(t, servertest.Options{Database: url}, append([]string{"keys", "create"}, args...)...)
	if r.Code != 0 || !keyLine.MatchString(r.Stdout) {
		t.Fatalf("keys create %q: %+v, want the key alone on standard output", args, r)
	}
	key = strings.TrimSpace(r.Stdout)
	id = strings.Split(key, "_")[1]
	if !strings.Contains(r.Stderr, id) || strings.Contains(r.Stderr, key[len(key)-43:]) {
		t.Fatalf("keys create %q says %q beside the key", args, r.Stderr)
	}
	return key, id
}

// everything are the arguments of a key that may do everything with every flow.
func everything(name string) []string {
	return []string{"--name", name, "--scope", "flows:read", "--scope", "flows:write", "--scope", "events:write", "--owner", "*"}
}

func bearer(key string) []string { return []string{"Authorization", "Bearer " + key} }

const newFlow = `{"controller_id":"c","goal":"g","owner_session_key":"agent:kate:1"}`

func withKeys(url string, env ...string) servertest.Options {
	return servertest.Options{Database: url, Env: append(env, "TASKFLOW_AUTH=keys")}
}

// TestKeys_OnTheCommandLine makes, lists and revokes keys, before any server has migrated the schema.
func TestKeys_OnTheCommandLine(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		run := func(args ...string) servertest.Result {
			return servertest.Run(t, servertest.Options{Database: url}, append([]string{"keys"}, args...)...)
		}
		key, id := makeKey(t, url, "--name", "kate's laptop", "--scope", "flows:read", "--scope", "flows:write", "--owner", "agent:kate:*", "--expires", "P90D")
		_, other := makeKey(t, url, everything("root")...)
		line := func(id string) string {
			r := run("list")
			for _, line := range strings.Split(r.Stdout, "\n") {
				if strings.HasPrefix(line, id) {
					return line
				}
			}
			t.Fatalf("keys list: %+v, want %s", r, id)
			return ""
		}
		expires := time.Now().Add(90 * 24 * time.Hour).UTC().Format("2006-01-")
		want := regexp.MustCompile(`^` + id + `  kate's laptop  flows:read flows:write +agent:kate:\*  [0-9-]+T[0-9:]+Z  ` + expires + `[0-9:TZ]+ +-  +-$`)
		if got := line(id); !want.MatchString(got) {
			t.Errorf("listed as %q, want %s", got, want)
		}
		s := servertest.Start(t, withKeys(url))
		s.Call(t, http.StatusCreated, http.MethodPost, "/flows", newFlow, bearer(key)...)
		s.Call(t, http.StatusForbidden, http.MethodPost, "/flows", strings.Replace(newFlow, "kate", "bob", 1), bearer(key)...)
		if code, _ := s.Stop(); code != 0 {
			t.Fatalf("stopped with %d", code)
		}
		if got := strings.Fields(line(id)); !strings.Contains(got[len(got)-2], time.Now().UTC().Format("2006-01-")) {
			t.Errorf("after it was used and the server stopped: %q, want the last use", got)
		}
		for range 2 {
			if r := run("revoke", id); r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, id) {
				t.Errorf("keys revoke: %+v", r)
			}
		}
		if got := line(id); strings.HasSuffix(got, "-") || !strings.HasSuffix(line(other), "-") {
			t.Errorf("after it was revoked: %q", got)
		}
		if r := run("list"); strings.Contains(r.Stdout, key[len(key)-43:]) {
			t.Error("a key is listed itself")
		}
		for _, args := range [][]string{
			{"revoke", "no-such-key"}, {"revoke"}, {"create", "--name", "n", "--scope", "flows:read"}, {"create", "--scope", "flows:read", "--owner", "*"},
			{"create", "--name", "n", "--owner", "*"}, {"create", "--name", "n", "--scope", "flows", "--owner", "*"},
			{"create", "--name", "timer", "--scope", "admin", "--owner", "*"}, {"create", "--name", "n", "--scope", "admin", "--owner", "a*b"},
			{"create", "--name", "n", "--scope", "admin", "--owner", "*", "--expires", "90d"}, {"create", "--name", "n", "--scope", "admin", "--owner", "*", "--expires", "-P1D"},
		} {
			if r := run(args...); r.Code == 0 || r.Stdout != "" && !strings.HasPrefix(r.Stdout, "Usage:") {
				t.Errorf("keys %q: %+v, want a refusal", args, r)
			}
		}
	})
}

// TestKeys_RevocationHoldsWithinFiveSeconds revokes by the command line a key that is in use at every server.
func TestKeys_RevocationHoldsWithinFiveSeconds(t *testing.T) {
	servertest.Databases(t, func(t *testing.T, url string, servers int) {
		key, id := makeKey(t, url, everything("root")...)
		all := servertest.StartAll(t, withKeys(url), servers)
		for _, s := range all {
			s.Call(t, http.StatusOK, http.MethodGet, "/flows", "", bearer(key)...)
		}
		if r := servertest.Run(t, servertest.Options{Database: url}, "keys", "revoke", id); r.Code != 0 {
			t.Fatalf("keys revoke: %+v", r)
		}
		revoked := time.Now()
		err := servertest.Await(t.Context(), 5*time.Second, func() bool {
			refused := 0
			for _, s := range all {
				if answer, err := s.Send(http.MethodGet, "/flows", "", bearer(key)...); err == nil && answer.Status == http.StatusUnauthorized {
					refused++
				}
			}
			return refused == len(all)
		})
		if err != nil {
			t.Errorf("the key is still good at some server after %v", time.Since(revoked))
		}
		fresh, _ := makeKey(t, url, everything("root again")...)
		for _, s := range all {
			s.Call(t, http.StatusOK, http.MethodGet, "/flows", "", bearer(fresh)...)
		}
	})
}

// TestKeys_RevocationEndsStreamsElsewhere revokes by the command line a key that a stream was opened with, while another
// server goes on changing what it shows.
func TestKeys_RevocationEndsStreamsElsewhere(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, servers int) {
		writes, _ := makeKey(t, url, everything("writer")...)
		reads, id := makeKey(t, url, "--name", "reader", "--scope", "flows:read", "--owner", "agent:kate:*")
		all := servertest.StartAll(t, withKeys(url), servers)
		write := func() { all[0].Call(t, http.StatusCreated, http.MethodPost, "/flows", newFlow, bearer(writes)...) }
		stream, err := all[len(all)-1].Stream(t.Context(), "/events?after=0", bearer(reads)...)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		write()
		if _, err := stream.NextEvent(); err != nil {
			t.Fatal(err)
		}
		if r := servertest.Run(t, servertest.Options{Database: url}, "keys", "revoke", id); r.Code != 0 {
			t.Fatalf("keys revoke: %+v", r)
		}
		if err := stream.AwaitEnd(30*time.Second, write); err != nil { // 5 s are promised; a busy machine has its time
			t.Error(err)
		}
	})
}

// TestOpenFlows_LimitSurvivesARestart counts in the database, for all servers.
func TestOpenFlows_LimitSurvivesARestart(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		key, _ := makeKey(t, url, everything("root")...)
		s := servertest.Start(t, withKeys(url, "TASKFLOW_MAX_OPEN_FLOWS=2"))
		var f servertest.Flow
		for range 2 {
			if err := s.Call(t, http.StatusCreated, http.MethodPost, "/flows", newFlow, bearer(key)...).Decode(&f); err != nil {
				t.Fatal(err)
			}
		}
		s.Kill()
		s.Restart()
		s.Call(t, http.StatusTooManyRequests, http.MethodPost, "/flows", newFlow, bearer(key)...)
		s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+f.ID+"/cancel", "", bearer(key)...)
		s.Call(t, http.StatusCreated, http.MethodPost, "/flows", newFlow, bearer(key)...)
		s.Call(t, http.StatusTooManyRequests, http.MethodPost, "/flows", newFlow, bearer(key)...)
	})
}

// TestJWT_ServesBeforeItsIssuer starts a server whose issuer is away; it serves by keys, and by tokens when it is there.
func TestJWT_ServesBeforeItsIssuer(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t)
	issuer.SetDown(true)
	url := servertest.SQLite(t)
	key, _ := makeKey(t, url, everything("root")...)
	s := servertest.Start(t, servertest.Options{Database: url, Env: []string{
		"TASKFLOW_AUTH=keys,jwt", "TASKFLOW_JWT_ISSUER=" + issuer.URL, "TASKFLOW_JWT_AUDIENCE=" + authtest.Audience, "TASKFLOW_JWT_OWNER_CLAIM=tenant",
	}})
	token := issuer.Token(map[string]any{"tenant": "agent:kate:*"})
	answer := s.Call(t, http.StatusServiceUnavailable, http.MethodGet, "/flows", "", bearer(token)...)
	if answer.Problem() != "unavailable" || answer.Header.Get("Retry-After") == "" {
		t.Errorf("before its issuer is there: %s, %v", answer.Body, answer.Header)
	}
	s.Call(t, http.StatusOK, http.MethodGet, "/flows", "", bearer(key)...)
	issuer.SetDown(false)
	if err := servertest.Await(t.Context(), 40*time.Second, func() bool {
		answer, err := s.Send(http.MethodGet, "/flows", "", bearer(token)...)
		return err == nil && answer.Status == http.StatusOK
	}); err != nil {
		t.Error("a good token is not taken when the issuer is there")
	}
	s.Call(t, http.StatusCreated, http.MethodPost, "/flows", newFlow, bearer(token)...)
	s.Call(t, http.StatusForbidden, http.MethodPost, "/flows", strings.Replace(newFlow, "kate", "bob", 1), bearer(token)...)
	s.Call(t, http.StatusForbidden, http.MethodGet, "/flows", "", bearer(issuer.Token(nil))...) // no tenant
	s.Call(t, http.StatusUnauthorized, http.MethodGet, "/flows", "")
}

// TestLog_HasNoSecrets uses every secret there is, well and badly, and looks for each in everything the server wrote.
func TestLog_HasNoSecrets(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		const password = "hunter2-password"
		if !strings.HasPrefix(url, "sqlite:") {
			url += "&password=" + password
		}
		secrets := useSecrets(t, url)
		secrets["the password"] = password
		log := secrets["the log"]
		delete(secrets, "the log")
		if strings.Count(log, "\n") < 30 {
			t.Fatalf("the log at level debug is short:\n%s", log)
		}
		for what, secret := range secrets {
			if strings.Contains(log, secret) {
				t.Errorf("%s is in the log", what)
			}
		}
	})
}

// useSecrets runs a server that is sent secrets; it returns them by what they are, and its log as "the log".
func useSecrets(t *testing.T, url string) map[string]string {
	t.Helper()
	const sealing, verify, idempotency = "c2VhbGluZy1rZXktMDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "verify-secret-0123456789", "idempotency-key-0123456789"
	issuer := authtest.Start(t)
	key, _ := makeKey(t, url, append(everything("root"), "--scope", "admin")...)
	s := servertest.Start(t, servertest.Options{Database: url, Env: []string{
		"TASKFLOW_AUTH=keys,jwt", "TASKFLOW_JWT_ISSUER=" + issuer.URL, "TASKFLOW_JWT_AUDIENCE=" + authtest.Audience,
		"TASKFLOW_LOG_LEVEL=debug", "TASKFLOW_SECRET_KEY=" + sealing,
	}})
	good, expired := issuer.Token(nil), issuer.Token(map[string]any{"exp": 1})
	secrets := map[string]string{"the sealing key": sealing, "a verify secret": verify, "an idempotency key": idempotency}
	for i, credentials := range []string{key, key + "x", "tfk_unknown000000_" + strings.Repeat("S", 43), good, good[:len(good)-9] + "AAAAAAAAA", expired, issuer.Unsigned(), issuer.Stranger("x"), "no-token-at-all-0123456789"} {
		for _, scheme := range []string{"Bearer ", "Basic ", ""} {
			for _, path := range []string{"/flows?limit=0", "/metrics", "/"} {
				if _, err := s.Send(http.MethodGet, path, "", "Authorization", scheme+credentials); err != nil {
					t.Fatal(err)
				}
			}
		}
		secrets[fmt.Sprintf("credentials %d", i)] = credentials[max(0, len(credentials)-20):]
	}
	var f servertest.Flow
	created := s.Call(t, http.StatusCreated, http.MethodPost, "/flows", strings.Replace(newFlow, "{", `{"mode":"mirrored",`, 1), append(bearer(key), "Idempotency-Key", idempotency)...)
	if err := created.Decode(&f); err != nil {
		t.Fatal(err)
	}
	s.Call(t, http.StatusUnprocessableEntity, http.MethodPost, "/flows", newFlow, append(bearer(key), "Idempotency-Key", idempotency)...)
	var waiting struct{ Wait struct{ URL string } }
	wait := `{"wait":{"kind":"callback","verify":{"scheme":"github","secret":"` + verify + `"}}}`
	if err := s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+f.ID+"/wait", wait, bearer(key)...).Decode(&waiting); err != nil {
		t.Fatal(err)
	}
	callback := waiting.Wait.URL[strings.LastIndex(waiting.Wait.URL, "/callbacks/"):]
	secrets["a callback's token"] = strings.TrimPrefix(callback, "/callbacks/")
	s.Call(t, http.StatusUnauthorized, http.MethodPost, callback, `{}`, "X-Hub-Signature-256", "sha256=00")
	s.Call(t, http.StatusNotFound, http.MethodPost, callback+"x", `{}`)
	s.Call(t, http.StatusOK, http.MethodGet, callback, "")
	secrets["a signature"] = githubSignature(verify, `{}`)
	s.Call(t, http.StatusOK, http.MethodPost, callback, `{}`, "X-Hub-Signature-256", "sha256="+secrets["a signature"])
	s.Stop()
	secrets["the log"] = s.Log()
	return secrets
}

// githubSignature signs a body as the scheme github wants it.
func githubSignature(secret, body string) string {
	signing := hmac.New(sha256.New, []byte(secret))
	signing.Write([]byte(body))
	return hex.EncodeToString(signing.Sum(nil))
}

// TestKeys_ReadTheSameVariables runs the command line with what a server's environment has.
func TestKeys_ReadTheSameVariables(t *testing.T) {
	t.Parallel()
	o := servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_AUTH=keys", "TASKFLOW_LISTEN=0.0.0.0:8080", "TASKFLOW_NO_AUTO_MIGRATE=true"}}
	if r := servertest.Run(t, o, "keys", "list"); r.Code == 0 {
		t.Errorf("listed keys of a database without a schema: %+v", r)
	}
	if r := servertest.Run(t, o, "migrate"); r.Code != 0 {
		t.Fatalf("migrate: %+v", r)
	}
	if r := servertest.Run(t, o, "keys", "list"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "ID ") {
		t.Errorf("keys list: %+v", r)
	}
	if _, err := os.Stat(strings.TrimPrefix(o.Database, "sqlite:")); err != nil {
		t.Error(err)
	}
}
