package httpapi

import (
	"html/template"
	"maps"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"
)

// kind is what is fixed about a slug: its status, its title, and what its page says.
type kind struct {
	status int
	title  string
	about  string
}

// catalogue has every problem this server answers with.
var catalogue = map[slug]kind{
	slugNotFound:             {404, "Not found", "There is no such flow, step, event, callback or route. A flow that has been erased is not found either."},
	slugRevisionConflict:     {409, "Revision conflict", "The request's If-Match names a revision the flow is no longer at: somebody else changed it meanwhile. The problem has the flow as it is now, so that you can look at what changed and try again with its revision (the ETag). The status is 409 and not 412 on purpose: the conflict is with the flow's recorded revision, and the answer carries what is needed to resolve it."},
	slugAlreadyTerminal:      {409, "Already ended", "The flow is finished, failed or cancelled; flow_status says which. Nothing changes it any more, but a step that ends late can still be recorded, and the flow can be erased."},
	slugCancelPending:        {409, "Cancel pending", "The flow's cancel was requested. From then on it accepts nothing but a cancel; running steps can still be recorded, and when the last one ends the flow is cancelled by itself. A running flow of which no step is recorded stays until somebody cancels it."},
	slugIllegalTransition:    {409, "Illegal transition", "The state machine has no move from the flow's status to the one this command leads to; from and to name them."},
	slugAlreadyExists:        {409, "Already exists", "The id you brought along is taken. If you sent the request before and did not see its answer, send it with an Idempotency-Key next time: a repeat then gets the first answer."},
	slugNotTerminal:          {409, "Not ended", "Only a flow that is finished, failed or cancelled can be erased. Cancel it first."},
	slugNotWaiting:           {409, "Not waiting", "The flow does not wait, so there is no wait to explain."},
	slugWaitEnded:            {410, "Wait ended", "The wait that this callback URL was for has ended otherwise: somebody resumed or cancelled the flow, or another of its conditions came first."},
	slugUnauthenticated:      {401, "Unauthenticated", "The request does not say who sent it, as Authorization: Bearer and an API key or a token; or the key or the token is not good: unknown, revoked, expired, for another audience. Of a callback: its body must be signed by the scheme the wait names, with its secret, and not longer than five minutes ago where the scheme has a timestamp."},
	slugInvalidRequest:       {400, "Invalid request", "The request cannot be understood in one way only: the body is not JSON, has an unknown or missing field, a wrong type, a duplicate key or anything else that JSON readers disagree on; or a query parameter or a header is wrong. errors says where."},
	slugInvalidValue:         {422, "Invalid value", "The request is well-formed, but a value in it is not allowed: too long, empty, out of range, not one of the known ones. errors says where."},
	slugIdempotencyKeyReused: {422, "Idempotency key reused", "The Idempotency-Key was sent before with another method, path, If-Match or body. A key belongs to one request and its repeats; use a new key for a new request."},
	slugPreconditionRequired: {428, "Precondition required", "This server asks for an If-Match header with every change of a flow. Send the flow's revision, or * to change it whatever its revision is."},
	slugPayloadTooLarge:      {413, "Payload too large", "The body, a patch or another JSON value in it, or the flow's state after the change, would be over this server's limit; or the body has too many values, small as they are."},
	slugUnsupportedMediaType: {415, "Unsupported media type", "Send a body as application/json, in UTF-8."},
	slugMethodNotAllowed:     {405, "Method not allowed", "The route exists, but not with this method. The Allow header has the methods there are."},
	slugForbidden:            {403, "Forbidden", "Your credentials are good, but do not have the scope that this call needs, or not the owner of the flow you want to create; or the request comes from a page of another origin that this server does not know; or, where nobody has to say who they are, it is for a host that this server does not know."},
	slugTooManyRequests:      {429, "Too many requests", "You send more requests a second than this server takes from one caller, each command of a batch being one; or have as many flows that have not ended, or as many live streams and waiting reads open, as you may. Nothing was changed; try again after Retry-After seconds."},
	slugOverloaded:           {503, "Overloaded", "More changes are waiting than this server takes on, or as many live streams and waiting reads are open as it has room for. Nothing was changed; try again after Retry-After seconds."},
	slugUnavailable:          {503, "Unavailable", "The database cannot be reached, or takes no changes now; or it cannot be found out now whether your credentials are good, or whether there is such a callback; or the request, or its body, took too long; or the server is shutting down, or not ready yet. The detail says which. Where outcome_unknown is true it is not known how the commit ended, as the connection broke, the standby did not confirm it, or the request was given up meanwhile, and the change may have been made: repeat the request with the same Idempotency-Key to find out. Without it, nothing was changed."},
	slugInternal:             {500, "Internal error", "Something went wrong that should not. The server's log has more under the request's id, which is the problem's instance."},
}

var problemPage = template.Must(template.New("problem").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Title}} - Taskflow</title>
<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}</style>
</head><body><main>
{{if .About}}<h1>{{.Title}}</h1><p><code>{{.Slug}}</code>, status {{.Status}}</p><p>{{.About}}</p><p><a href="/problems">All problems</a></p>
{{else}}<h1>{{.Title}}</h1><ul>{{range .All}}<li><a href="/problems/{{.}}">{{.}}</a></li>{{end}}</ul>{{end}}
</main></body></html>
`))

// serveProblem serves the page of one slug, or the list of all.
func (a *api) serveProblem(w http.ResponseWriter, r *http.Request) {
	name := slug(chi.URLParam(r, "slug"))
	entry, known := catalogue[name]
	if name == "" {
		entry = kind{title: "Problems"}
	} else if !known {
		a.writeProblem(w, r, newProblem(slugNotFound, "There is no such problem."))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	_ = problemPage.Execute(w, map[string]any{ // a client that hangs up is its own affair
		"Slug": name, "Title": entry.title, "Status": entry.status, "About": entry.about,
		"All": slices.Sorted(maps.Keys(catalogue)),
	})
}
