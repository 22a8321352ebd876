package httpapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/auth/authtest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

func jsonOf(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// twoTenants are kate and bob, who see nothing of each other, and root, who sees all.
func twoTenants(s *setup) {
	s.callers = map[string]caller{"kate": {owners: "agent:kate:*"}, "bob": {owners: "agent:bob:*"}, "root": {owners: "*"}}
}

// without is an answer's status, headers and body, but for what differs between any two answers.
func without(a answer, id string) string {
	header := a.header.Clone()
	header.Del("Date")
	header.Del("X-Request-Id")
	text, _ := jsonOf(header)
	body := strings.ReplaceAll(a.body, id, "ID")
	return http.StatusText(a.status) + "\n" + text + "\n" + strings.ReplaceAll(body, a.header.Get("X-Request-Id"), "REQUEST")
}

// TestTenants_EveryOperation sends every operation of the contract that names a flow or an event: another owner's is, byte
// for byte, as one that does not exist, and stays as it is.
func TestTenants_EveryOperation(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		event := strings.Trim(kate.post("/external-events", `{"topic":"t","correlation_id":"c"}`).want(200).at("/id"), `"`)
		operations(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, o *openapi3.Operation) {
			if !strings.Contains(path, "{id}") {
				return
			}
			for _, status := range []string{"waiting", "finished"} {
				hers := strings.TrimPrefix(kate.in(t).inStatus(status), "/flows/")
				kate.in(t).put("/flows/"+hers+"/steps/draft-1", `{"task":"t","status":"succeeded"}`).want(201)
				if strings.HasPrefix(path, "/external-events/") {
					hers = event
				}
				before := all.as("root").in(t).snapshot()
				for _, headers := range [][]string{nil, {`If-Match: "99"`}, {"If-None-Match: *"}, {"Idempotency-Key: " + uuid.NewString()}} {
					ask := func(id string) string {
						target, body := sample(t, path, id, o)
						return without(bob.in(t).do(method, target, body, headers...), id)
					}
					wantText(t, status+" "+strings.Join(headers, ""), ask(hers), ask(uuid.NewString()))
				}
				wantText(t, "what is recorded", all.as("root").in(t).snapshot(), before)
			}
		})
	}, twoTenants)
}

// TestTenants_Lists holds that lists, counts and receipts say nothing of another owner's flows: with them and without
// they are the same, byte for byte.
func TestTenants_Lists(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		mine := bob.running(`"owner_session_key":"agent:bob:1"`)
		bob.post(mine+"/wait", `{"wait":{"kind":"external_event","topic":"t","correlation_id":"bob"}}`).want(200)
		bob.post("/external-events", `{"topic":"t","correlation_id":"mine"}`).want(200)
		look := func() string {
			var seen []string
			for _, path := range []string{
				"/flows", "/flows?order=created_at", "/flows?order=updated_at", "/flows?order=-updated_at", "/flows?status=running&status=waiting", "/flows?status=waiting", "/flows?q=Triage",
				"/flows?owner_session_key=agent:kate:session:abc", "/flows?controller_id=kate/inbox-triage", "/flows?label=a:b", "/flows?wait_kind=external_event",
				"/events", "/events?order=-seq", "/events?owner_session_key=agent:kate:session:abc", "/events?controller_id=kate/inbox-triage",
				"/external-events", "/external-events?topic=t", "/external-events?outcome=buffered", "/external-events?correlation_id=kate", "/stats", mine + "/wait",
			} {
				seen = append(seen, path+" "+bob.get(path).want(200).body)
			}
			return strings.Join(seen, "\n")
		}
		before := look()
		for _, status := range statuses {
			kate.inStatus(status)
		}
		hers := kate.running(`"labels":{"a":"b"}`)
		kate.post(hers+"/wait", `{"wait":{"kind":"timer","after":"PT1H"}}`).want(200)
		kate.post("/external-events", `{"topic":"t","correlation_id":"kate"}`).want(200)
		kate.post("/external-events", `{"topic":"other","correlation_id":"bob"}`).want(200)
		wantText(t, "what bob sees", look(), before)
		id := strings.TrimPrefix(hers, "/flows/")
		wantText(t, "her trail", bob.get("/events?flow_id="+id).want(200).body, bob.get("/events?flow_id="+uuid.NewString()).want(200).body)
		if n := len(all.as("root").get("/flows?limit=500").flows()); n != len(statuses)+2 {
			t.Errorf("root sees %d flows", n)
		}
	}, twoTenants)
}

// TestTenants_Cursors pages through one's own flows among many of another's: a page's cursor names nothing of theirs.
func TestTenants_Cursors(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		var mine, theirs []string
		for range 3 {
			mine = append(mine, bob.create(`"owner_session_key":"agent:bob:1"`).ID)
			theirs = append(theirs, kate.created(""))
		}
		for _, order := range []string{"created_at", "-created_at", "updated_at", "-updated_at"} {
			seen, path := 0, "/flows?limit=1&order="+order
			for cursor := ""; ; {
				a := bob.get(path + cursor).want(200)
				for _, f := range a.flows() {
					if seen++; !strings.Contains(strings.Join(mine, " "), f.ID) {
						t.Errorf("%s: bob sees %s", order, f.ID)
					}
				}
				if a.next() == "" {
					break
				}
				cursor = "&cursor=" + a.next()
				wantVeiled(t, a.next(), append(theirs, mine...))
				kate.get(path+cursor).problem(400, "invalid-request")
			}
			if seen != len(mine) {
				t.Errorf("%s: bob sees %d flows, has %d", order, seen, len(mine))
			}
		}
	}, twoTenants)
}

// wantVeiled holds that none of the ids can be read from a cursor.
func wantVeiled(t *testing.T, cursor string, ids []string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		t.Errorf("cursor %q: %v", cursor, err)
	}
	for _, id := range ids {
		if parsed := uuid.MustParse(strings.TrimPrefix(id, "/flows/")); bytes.Contains(raw, parsed[:]) {
			t.Errorf("the cursor names flow %s", id)
		}
	}
}

// TestTenants_Create holds that nobody makes a flow for another owner, and learns no more of a taken id than that.
func TestTenants_Create(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		for _, owner := range []string{"agent:kate:session:abc", "agent:bob", "agent:bobby:1", "*", "agent:*"} {
			a := bob.post("/flows", createBody(`"owner_session_key":`+quoted(owner)))
			a.problem(403, "forbidden")
			if a.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		}
		hers := kate.create("").ID
		a := bob.post("/flows", createBody(`"owner_session_key":"agent:bob:1","id":`+quoted(hers)))
		a.problem(409, "already-exists")
		if strings.Contains(a.body, "kate") || a.header.Get("ETag") != "" {
			t.Errorf("a taken id says %v %s", a.header, a.body)
		}
		bob.created(`"owner_session_key":"agent:bob:"`)
	}, twoTenants)
}

// TestTenants_Batch sends commands on another's flow, and on one that does not exist.
func TestTenants_Batch(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		send := func(path string) string {
			var commands []string
			for name, c := range commandsOf(path) {
				commands = append(commands, `{"method":"`+c.method+`","path":"`+c.path+`","if_match":"\"3\"","idempotency_key":"`+name+path+`"`+c.body+`}`)
			}
			a := bob.post("/batch", `{"commands":[`+strings.Join(commands, ",")+`]}`).want(200)
			return strings.ReplaceAll(strings.ReplaceAll(a.body, path, "FLOW"), a.header.Get("X-Request-Id"), "REQUEST")
		}
		hers, none := kate.running(""), noFlow()
		wantText(t, "a batch", send(hers), send(none))
		a := bob.post("/batch", `{"commands":[{"method":"POST","path":"/flows","body":`+createBody("")+`}]}`)
		if a.at("/results/0/status") != "403" {
			t.Errorf("a flow for another: %s", a.body)
		}
	}, twoTenants)
}

// commandsOf are the commands of a batch on a flow.
func commandsOf(path string) map[string]struct{ method, path, body string } {
	all := map[string]struct{ method, path, body string }{}
	for name, c := range commands {
		if c.method == "PUT" {
			continue
		}
		body := ""
		if c.body != "" {
			body = `,"body":` + c.body
		}
		all[name] = struct{ method, path, body string }{c.method, path + c.path, body}
	}
	return all
}

// TestTenants_ExternalEvents holds that an event reaches only flows its sender covers, waiting now or later, and that its
// receipt is its sender's.
func TestTenants_ExternalEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob, root := all.as("kate"), all.as("bob"), all.as("root")
		hers := kate.running("")
		const wait = `{"wait":{"kind":"external_event","topic":"t","correlation_id":"c"}}`
		kate.post(hers+"/wait", wait).want(200)
		a := bob.post("/external-events", `{"topic":"t","correlation_id":"c","payload":"bob's"}`).want(200).has("/outcome", `"buffered"`)
		bobs := "/external-events/" + strings.Trim(a.at("/id"), `"`)
		if f := kate.read(hers); f.Status != "waiting" {
			t.Errorf("bob's event made kate's flow %s", f.Status)
		}
		target := func(id string) string {
			return without(bob.post("/external-events", `{"topic":"t","correlation_id":"c","flow_id":`+quoted(id)+`}`), id)
		}
		wantText(t, "an event for her flow", target(strings.TrimPrefix(hers, "/flows/")), target(uuid.NewString()))
		kate.post(hers+"/resume", "").want(200)
		kate.post(hers+"/wait", wait).want(200)
		if f := kate.read(hers); f.Status != "waiting" {
			t.Errorf("bob's kept event made kate's flow %s", f.Status)
		}
		root.post("/external-events", `{"topic":"t","correlation_id":"c"}`).want(200).has("/outcome", `"delivered"`, "/flow_count", "1")
		kate.get(bobs).problem(404, "not-found")
		bob.get(bobs).want(200).has("/outcome", `"buffered"`)
		his := bob.running(`"owner_session_key":"agent:bob:1"`)
		bob.post(his+"/wait", wait).want(200).has("/status", `"running"`, "/state/resume_event", `"bob's"`)
		bob.get(bobs).want(200).has("/outcome", `"delivered"`)
	}, twoTenants)
}

// TestTenants_NearEvents explains a wait whose event came from a sender that does not cover the flow: to whoever sees both,
// and to nobody else.
func TestTenants_NearEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob, root := all.as("kate"), all.as("bob"), all.as("root")
		bob.publish("payment", "order-7", "")
		bob.publish("payment", "order-7", `,"ttl":"PT0S"`)
		bob.publish("payment", "order-8", "")
		hers, _ := kate.waiting(event7)
		bob.publish("payment", "order-7", "")
		const foreign = "payment order-7: Its sender's credentials are not for flows of this owner."
		wantText(t, "root", root.near(hers), strings.Join([]string{foreign, "payment order-8: Its correlation_id is another.", foreign, foreign}, "\n"))
		wantText(t, "kate", kate.near(hers), "")
		bob.get(hers+"/wait").problem(404, "not-found")
	}, twoTenants)
}

// TestTenants_Keys holds that an idempotency key is its caller's: the same one of another is another.
func TestTenants_Keys(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		hers := kate.post("/flows", createBody(""), "Idempotency-Key: k").want(201)
		his := bob.post("/flows", createBody(`"owner_session_key":"agent:bob:1"`), "Idempotency-Key: k").want(201).hasHeader("Idempotent-Replayed", "")
		if hers.flow().ID == his.flow().ID {
			t.Error("two callers share a key")
		}
		all.as("root").post("/flows", createBody(""), "Idempotency-Key: k").want(201).hasHeader("Idempotent-Replayed", "")
	}, twoTenants)
}

// TestTenants_Streams holds that a live stream shows a caller's own events alone, one after the other, and that a caller
// has no more streams than it may.
func TestTenants_Streams(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		s := kate.stream("/events?after=0", "Authorization", kate.credentials)
		for range 2 {
			bob.create(`"owner_session_key":"agent:bob:1"`)
			hers := kate.create("").ID
			if e, err := s.NextEvent(); err != nil || e.FlowID != hers {
				t.Fatalf("her stream has %+v, %v; want the event of %s", e, err, hers)
			}
		}
		kate.noStream(429, "too-many-requests", "/events", "Authorization", kate.credentials)
		kate.get("/events?after=999999", "Prefer: wait=1").problem(429, "too-many-requests")
		bob.stream("/events", "Authorization", bob.credentials)
	}, twoTenants, func(s *setup) { s.options.Streams = auth.NewStreams(1) })
}

// TestStreamsEndWithTheirCredentials holds that whoever has a key that was revoked, or a key or a token that has expired,
// reads nothing on, neither in a stream opened before nor in a read that waits, while there is always more to read.
func TestStreamsEndWithTheirCredentials(t *testing.T) {
	issuer := authtest.Start(t)
	const lifetime = 4 * time.Second
	eachStore(t, func(t *testing.T, all *client) {
		root := all.as("root")
		for what, credentials := range map[string]func(t *testing.T) (text string, end func() error){
			"a revoked key": func(*testing.T) (string, func() error) {
				return "Bearer " + all.keys["kate"], func() error {
					return all.store.RevokeAPIKey(context.Background(), strings.Split(all.keys["kate"], "_")[1])
				}
			},
			"a key that expires": func(t *testing.T) (string, func() error) {
				key, text, err := auth.NewKey(auth.KeySpec{Name: "short", Scopes: auth.Scopes(), Owners: "agent:kate:*", Lifetime: lifetime}, time.Now())
				if err == nil {
					err = all.store.AddAPIKey(t.Context(), key)
				}
				if err != nil {
					t.Fatal(err)
				}
				return "Bearer " + text, func() error { return nil }
			},
			"a token that expires": func(*testing.T) (string, func() error) {
				return "Bearer " + issuer.Token(map[string]any{"exp": time.Now().Add(lifetime).Unix()}), func() error { return nil }
			},
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				hers := root.in(t).create("")
				text, end := credentials(t)
				holder := all.with(text).in(t)
				s := holder.stream("/events?after=0", "Authorization", text)
				if _, err := s.NextEvent(); err != nil {
					t.Fatal(err)
				}
				waits := make(chan answer, 1)
				go func() { // ends with the wait
					a, _ := holder.try(context.Background(), "GET", "/flows/"+hers.ID, "", `If-None-Match: "0"`, "Prefer: wait=8")
					waits <- a
				}()
				if err := end(); err != nil {
					t.Error(err)
				}
				if err := s.AwaitEnd(30*time.Second, func() { root.in(t).create("") }); err != nil {
					t.Error(err)
				}
				if a := <-waits; a.status != http.StatusUnauthorized {
					t.Errorf("a read that waits is answered %d, want 401", a.status)
				}
				holder.noStream(401, "unauthenticated", "/events", "Authorization", text)
			})
		}
	}, twoTenants, func(s *setup) { s.issuer = issuer })
}
