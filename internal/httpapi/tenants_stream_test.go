package httpapi_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"taskflow/internal/servertest"

	"github.com/google/uuid"
)

// TestTenants_StreamOfAFlow asks for the stream of another's flow: the answer is, byte for byte, that of a flow which does
// not exist, whatever place the stream is to go on from.
func TestTenants_StreamOfAFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		hers := strings.TrimPrefix(kate.running(""), "/flows/")
		for _, query := range []string{"", "?after=0", "?after=1&limit=1"} {
			ask := func(id string) string {
				return bob.refusedStream("/flows/"+id+"/events"+query, id, "Last-Event-ID", "1")
			}
			none := ask(uuid.NewString())
			wantText(t, "the stream of her flow"+query, ask(hers), none)
			if !strings.HasPrefix(none, "Not Found\n") {
				t.Errorf("the stream of no flow: %s", none)
			}
			bob.do(http.MethodHead, "/flows/"+hers+"/events"+query, "", "Accept: text/event-stream").want(404)
		}
		if e, err := kate.stream("/flows/"+hers+"/events?after=0", "Authorization", kate.credentials).NextEvent(); err != nil || e.FlowID != hers {
			t.Errorf("her own stream: %+v, %v", e, err)
		}
	}, twoTenants)
}

// refusedStream is what is answered to a request for a stream, but for what differs between any two answers; "" where it is
// a stream, whose end need not come.
func (c *client) refusedStream(path, id string, header ...string) string {
	c.t.Helper()
	s, err := servertest.NewClient(c.t, c.url).Stream(c.t.Context(), path, append(header, "Authorization", c.credentials)...)
	var refused *servertest.StatusError
	if err == nil {
		s.Close()
	} else if !errors.As(err, &refused) {
		c.t.Fatal(err)
	}
	if refused == nil {
		c.t.Errorf("%s is a stream", path)
		return ""
	}
	return without(answer{t: c.t, status: refused.Answer.Status, header: refused.Answer.Header, body: string(refused.Answer.Body)}, id)
}

// TestTenants_StreamsFilteredForOthers has a caller ask for streams of what is another's, from the beginning and from now on:
// they bring signs of life and nothing else, while those who may see it are brought it.
func TestTenants_StreamsFilteredForOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, all *client) {
		kate, bob, root := all.as("kate"), all.as("bob"), all.as("root")
		hers := kate.running("")
		var theirs []*servertest.Stream
		var reading sync.WaitGroup
		watch := func(s *servertest.Stream) { // all the while: who does not read is cut off
			for range 3 { // when to come again, and two signs of life
				if m, err := s.Next(); err != nil || m.Event != "" || m.Data != "" {
					t.Errorf("bob is shown %+v, %v", m, err)
				}
			}
		}
		for _, filter := range []string{
			"flow_id=" + strings.TrimPrefix(hers, "/flows/"), "owner_session_key=agent:kate:session:abc", "controller_id=kate/inbox-triage", "kind=state_updated", "mode=managed",
		} {
			for _, from := range []string{"?after=0&", "?"} {
				his := bob.stream("/events"+from+filter, "Authorization", bob.credentials)
				reading.Go(func() { watch(his) })
			}
			theirs = append(theirs, root.stream("/events?"+filter, "Authorization", root.credentials), kate.stream("/events?"+filter, "Authorization", kate.credentials))
		}
		kate.post(hers+"/state", `{"patch":{"a":1}}`).want(200)
		for _, s := range theirs {
			if e, err := s.NextEvent(); err != nil || "/flows/"+e.FlowID != hers {
				t.Errorf("who may see it has %+v, %v", e, err)
			}
		}
		reading.Wait()
	}, twoTenants)
}

// TestTenants_CursorsOfReceipts pages through one's own external events among another's: a page's cursor names nothing of
// theirs, and is of use to nobody else.
func TestTenants_CursorsOfReceipts(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate, bob := all.as("kate"), all.as("bob")
		mine, theirs := map[string]bool{}, []string{}
		publish := func(c *client) string { return strings.Trim(c.publish("t", "c", "").want(200).at("/id"), `"`) }
		for range 3 {
			mine[publish(bob)] = false
			theirs = append(theirs, publish(kate))
		}
		const path = "/external-events?limit=1"
		for cursor := ""; ; {
			a := bob.get(path + cursor).want(200)
			for _, e := range items[struct{ ID string }](a) {
				if seen, is := mine[e.ID]; !is || seen {
					t.Errorf("bob sees %s, his: %t, seen before: %t", e.ID, is, seen)
				}
				mine[e.ID] = true
			}
			if a.next() == "" {
				break
			}
			if cursor = "&cursor=" + a.next(); kate.get(path+cursor).status != http.StatusBadRequest {
				t.Error("another may go on from his cursor")
			}
			wantVeiled(t, a.next(), theirs)
			for id := range mine {
				wantVeiled(t, a.next(), []string{id})
			}
		}
		for id, seen := range mine {
			if !seen {
				t.Errorf("bob does not see %s", id)
			}
		}
		// Who sees everything may know everything: what is looked for above is what stands in a plain cursor.
		raw, err := base64.RawURLEncoding.DecodeString(all.as("root").get(path).next())
		newest := uuid.MustParse(theirs[len(theirs)-1])
		if err != nil || !bytes.Contains(raw, newest[:]) {
			t.Errorf("root's cursor does not name %s: %x, %v", newest, raw, err)
		}
	}, twoTenants)
}

// FuzzCursorsOfTenants sends anything as a cursor to every list for a caller who sees only a part: it leads on to that
// caller's own, or is refused.
func FuzzCursorsOfTenants(f *testing.F) {
	api := serveSQLite(f, twoTenants)
	lists := []string{"/flows?limit=1", "/flows?limit=1&order=created_at", "/flows?limit=1&order=updated_at", "/events?limit=1", "/events?limit=1&order=-seq", "/external-events?limit=1"}
	for range 2 {
		for name, whose := range map[string]string{"kate": `"hers"`, "bob": `"his"`} { // which flows, events and receipts show
			api.as(name).in(f).created(`"owner_session_key":"agent:` + name + `:1","controller_id":` + whose)
			api.as(name).in(f).publish(strings.Trim(whose, `"`), "c", "")
		}
	}
	for _, list := range lists {
		for _, name := range []string{"root", "kate", "bob"} {
			f.Add(api.as(name).in(f).get(list).next())
		}
	}
	for _, seed := range []string{"", "A", "\x00", strings.Repeat("A", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, list := range lists {
			a := api.in(t).as("bob").get(list + "&cursor=" + url.QueryEscape(cursor))
			if a.status != http.StatusOK && a.status != http.StatusBadRequest || strings.Contains(a.body, `"hers"`) {
				t.Errorf("%s with %q: %d %s", list, cursor, a.status, a.body)
			}
		}
	})
}
