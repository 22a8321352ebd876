package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/go-chi/chi/v5"
)

// routeCallbacks serves the URLs that end waits. They need no key of a caller: the URL is the capability. A GET changes
// nothing, as mail scanners follow links; query parameters are ignored.
func (a *api) routeCallbacks(r chi.Router) {
	r.Get("/callbacks/{token}", a.callback(a.showCallback))
	r.Post("/callbacks/{token}", a.callback(a.endByCallback(false)))
	r.Post("/callbacks/{token}/reject", a.callback(a.endByCallback(true)))
}

var errNoCallback = newProblem(slugNotFound, "There is no such callback.")

// callback checks the token before anything else happens.
func (a *api) callback(next func(http.ResponseWriter, *http.Request, capability) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := a.keys.open(r.Context(), chi.URLParam(r, "token"))
		if err != nil {
			a.writeProblem(w, r, err)
			return
		}
		requestOf(r.Context()).flow = c.flow
		if err := next(w, r, c); err != nil {
			a.writeProblem(w, r, err)
		}
	}
}

// endByCallback takes any body up to the limit.
func (a *api) endByCallback(reject bool) func(http.ResponseWriter, *http.Request, capability) error {
	return func(w http.ResponseWriter, r *http.Request, c capability) error {
		body, err := a.readBody(w, r)
		if err != nil {
			return err
		}
		action := flows.EndByCallback{Generation: c.generation, Condition: c.condition, Key: c.key, Rejected: reject}
		if action.Verified, err = a.verified(r, c, body); err != nil {
			return err
		}
		action.Payload = callbackPayload(r.Header.Get("Content-Type"), body)
		command := engine.Command{Command: flows.Command{FlowID: c.flow, Owners: flows.Everyone, Actor: flows.ActorCallback,
			Traceparent: requestOf(r.Context()).traceparent, Action: action}}
		_, err = a.apply(r.Context(), command)
		outcome := "resumed"
		if errors.Is(err, flows.ErrWaitEnded) || errors.Is(err, flows.ErrNotFound) {
			outcome = "already_resumed"
			err = a.endedBy(r.Context(), c, reject)
		}
		switch {
		case errors.Is(err, flows.ErrWaitEnded) && fromForm(r):
			a.writePage(w, http.StatusGone, callbackView{Ended: true})
		case err != nil:
			return err
		case fromForm(r):
			a.writePage(w, http.StatusOK, callbackView{Done: true})
		default:
			jsonReply(http.StatusOK, marshal(map[string]string{"outcome": outcome})).write(w)
		}
		return nil
	}
}

// fromForm reports whether a person sent the request with a browser's form: they get a page, everybody else JSON.
func fromForm(r *http.Request) bool {
	return isForm(r.Header.Get("Content-Type")) && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// verified checks the body's signature where the wait asks for one.
func (a *api) verified(r *http.Request, c capability, body []byte) (bool, error) {
	condition, err := a.awaited(r.Context(), c)
	if err != nil || condition == nil || condition.Verify == nil {
		return false, err
	}
	v := condition.Verify
	secret, err := a.secrets.open(v.Secret)
	if err != nil {
		return false, err
	}
	if !verifiers[v.Scheme](v, secret, r.Header, body, time.Now()) {
		return false, flows.ErrUnverified
	}
	return true, nil
}

// awaited is the condition that a capability ends; nil where its wait has ended.
func (a *api) awaited(ctx context.Context, c capability) (*flows.Condition, error) {
	f, err := a.reader.Flow(ctx, c.flow, flows.Everyone)
	switch {
	case errors.Is(err, flows.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return c.conditionOf(f), nil
}

// endedBy looks up in the trail how a wait ended: nil where it was by this very callback, so that a sender that did not
// see the answer gets it again. The look has an end: whoever holds a URL may send as often as it likes.
func (a *api) endedBy(ctx context.Context, c capability, reject bool) error {
	start, err := a.beginning(ctx, c)
	if err != nil {
		return err
	}
	q := c.trail(flows.EventWaiting, flows.EventResumed)
	q.After, q.Limit = &start, 1
	for range endPages {
		found, err := a.pageOfTrail(ctx, q)
		switch {
		case err != nil:
			return err
		case len(found.Items) > 0:
			if end := causeOf(found.Items[0]); end.Generation == c.generation && end.is(c, reject) {
				return nil
			}
			return flows.ErrWaitEnded
		case found.Next == nil:
			return flows.ErrWaitEnded
		}
		q.After = found.Next // it was long, and there was much else meanwhile
	}
	return flows.ErrWaitEnded
}

const (
	// recentWaits is how many waits are looked at before one is searched for. Events may be large, so that pages are short.
	recentWaits = 20
	// endPages is how far the end of a wait is looked for behind its beginning.
	endPages = 10
)

// beginning is the number of the event by which the wait began, or flows.ErrWaitEnded where the trail does not have it. The
// newest come first, as a sender repeats soon.
func (a *api) beginning(ctx context.Context, c capability) (int64, error) {
	q := c.trail(flows.EventWaiting)
	q.Desc, q.Limit = true, recentWaits
	found, err := a.pageOfTrail(ctx, q)
	if err != nil {
		return 0, err
	}
	for _, event := range found.Items {
		switch {
		case c.began(event):
			return event.Seq, nil
		case event.Revision <= c.generation:
			return 0, flows.ErrWaitEnded
		}
	}
	if found.Next == nil {
		return 0, flows.ErrWaitEnded
	}
	return a.searchBeginning(ctx, c, *found.Next)
}

// searchBeginning finds the event by which the wait began, below a number. The revisions of a flow's events never fall as
// their numbers rise, so that each look halves what is left.
func (a *api) searchBeginning(ctx context.Context, c capability, below int64) (int64, error) {
	low, high := int64(0), below-1 // it is above low, and at most high
	for low < high {
		middle := low + (high-low)/2
		q := c.trail()
		q.After, q.Limit = &middle, 1
		found, err := a.pageOfTrail(ctx, q)
		switch {
		case err != nil:
			return 0, err
		case len(found.Items) > 0 && c.began(found.Items[0]):
			return found.Items[0].Seq, nil
		case len(found.Items) > 0 && found.Items[0].Revision < c.generation:
			low = found.Items[0].Seq
		default: // past it, if only at a step that was observed while the flow waited
			high = middle
		}
	}
	return 0, flows.ErrWaitEnded
}

// trail asks for the events of the capability's flow, of some kinds or of all.
func (c capability) trail(kinds ...flows.EventKind) store.EventQuery {
	return store.EventQuery{Owners: flows.Everyone, FlowID: c.flow, FromFlow: true, Kinds: kinds}
}

// pageOfTrail reads a page; the waits of a flow that was erased have ended.
func (a *api) pageOfTrail(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	found, err := a.reader.Events(ctx, q)
	if errors.Is(err, flows.ErrNotFound) {
		err = flows.ErrWaitEnded
	}
	return found, err
}

// began reports whether an event is the beginning of the wait that a capability is for, and not one in the trail of
// another flow that was given the same id.
func (c capability) began(event flows.Event) bool {
	if event.Revision != c.generation || event.Kind != flows.EventWaiting {
		return false
	}
	var payload struct {
		Wait struct {
			Since time.Time `json:"since"`
		} `json:"wait"`
	}
	err := json.Unmarshal(event.Payload, &payload)
	return err == nil && (c.since == 0 || payload.Wait.Since.UnixMicro() == c.since)
}

// cause is what the trail says of the end of a wait.
type cause struct {
	Kind       flows.ResumeKind    `json:"kind"`
	Outcome    flows.ResumeOutcome `json:"outcome"`
	Condition  *int                `json:"condition"`
	Generation int64               `json:"generation"`
}

func causeOf(event flows.Event) cause {
	var payload struct {
		Cause cause `json:"cause"`
	}
	if err := json.Unmarshal(event.Payload, &payload); err != nil {
		return cause{} // of no kind, and so not this callback
	}
	return payload.Cause
}

// is reports whether the wait was ended by this callback, with this outcome.
func (e cause) is(c capability, reject bool) bool {
	want := flows.OutcomeResumed
	if reject {
		want = flows.OutcomeRejected
	}
	return e.Kind == flows.ResumedByCallback && e.Outcome == want && (e.Condition == nil || *e.Condition == c.condition)
}

// callbackPayload is what goes under state.resume_event: JSON as it is, a form as an object, anything else, also what
// only claims to be one of these, as text or base64 with its type.
func callbackPayload(contentType string, body []byte) json.RawMessage {
	media, _, err := mime.ParseMediaType(contentType)
	if err == nil && (media == "application/json" || strings.HasSuffix(media, "+json")) {
		if checkJSON(body) == nil {
			if text, err := compact(body); err == nil {
				return text
			}
		}
	}
	if isForm(contentType) {
		if form, ok := formPayload(body); ok {
			return form
		}
	}
	if len(body) == 0 {
		return nil
	}
	raw := rawPayload{ContentType: strings.ToValidUTF8(strings.ReplaceAll(contentType, "\x00", ""), ""), Body: string(body)}
	if !flows.ValidText(raw.Body) {
		raw.Body, raw.Encoding = base64.StdEncoding.EncodeToString(body), "base64"
	}
	return marshal(raw)
}

type rawPayload struct {
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
	Encoding    string `json:"encoding,omitempty"`
}

func isForm(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == "application/x-www-form-urlencoded"
}

// formPayload is a form as an object; repeated keys are arrays.
func formPayload(body []byte) (json.RawMessage, bool) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, false
	}
	object := make(map[string]any, len(values))
	for key, all := range values {
		for _, text := range append(all, key) {
			if !flows.ValidText(text) {
				return nil, false
			}
		}
		if object[key] = all[0]; len(all) > 1 {
			object[key] = all
		}
	}
	return marshal(object), true
}

// showCallback shows what the wait is for, and two buttons.
func (a *api) showCallback(w http.ResponseWriter, r *http.Request, c capability) error {
	f, err := a.reader.Flow(r.Context(), c.flow, flows.Everyone)
	if err != nil && !errors.Is(err, flows.ErrNotFound) {
		return err
	}
	var condition *flows.Condition
	if err == nil {
		condition = c.conditionOf(f)
	}
	if condition == nil {
		a.writePage(w, http.StatusGone, callbackView{Ended: true})
		return nil
	}
	view := callbackView{Goal: f.Goal, Token: chi.URLParam(r, "token"), Signed: condition.Verify != nil}
	if f.Wait.Details != nil {
		var indented bytes.Buffer
		if json.Indent(&indented, f.Wait.Details, "", "  ") == nil {
			view.Details = indented.String()
		}
	}
	a.writePage(w, http.StatusOK, view)
	return nil
}

// callbackView is what a page shows. Token is where its forms go, from the page's own address: a proxy may serve it under a
// path of its own.
type callbackView struct {
	Goal, Details, Token string
	Signed, Ended, Done  bool
}

const callbackStyle = `:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem}` +
	`pre{overflow:auto;padding:1rem;border:1px solid;border-radius:.5rem}form{display:inline-block;margin:0 1rem 1rem 0}button{font:inherit;padding:.6rem 1.2rem}`

var callbackPage = template.Must(template.New("callback").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">
<title>{{if .Done}}Thank you{{else if .Ended}}Over{{else}}Waiting for you{{end}}</title><style>` + callbackStyle + `</style></head><body><main>
{{if .Done}}<h1>Thank you</h1><p>Your answer was recorded. You can close this page.</p>
{{else if .Ended}}<h1>This is over</h1><p>What was waited for has happened, or was called off. There is nothing left to do here.</p>
{{else}}<h1>{{.Goal}}</h1>
{{if .Details}}<pre>{{.Details}}</pre>{{end}}
{{if .Signed}}<p>This waits for a signed message from another system.</p>
{{else}}<form method="post" action="{{.Token}}"><button>Go ahead</button></form>
<form method="post" action="{{.Token}}/reject"><button>Reject</button></form>{{end}}{{end}}
</main></body></html>
`))

var styleHash = func() string {
	sum := sha256.Sum256([]byte(callbackStyle))
	return base64.StdEncoding.EncodeToString(sum[:])
}()

// writePage writes a page without a script; its policy allows the one style that it has, and nothing else.
func (a *api) writePage(w http.ResponseWriter, status int, view callbackView) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+styleHash+"'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	_ = callbackPage.Execute(w, view) // a client that hangs up is its own affair
}
