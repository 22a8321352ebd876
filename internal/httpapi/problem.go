package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"taskflow/internal/auth"
	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// slug names a kind of problem; its page is /problems/<slug>.
type slug string

const (
	slugNotFound             slug = "not-found"
	slugRevisionConflict     slug = "revision-conflict"
	slugAlreadyTerminal      slug = "already-terminal"
	slugCancelPending        slug = "cancel-pending"
	slugIllegalTransition    slug = "illegal-transition"
	slugAlreadyExists        slug = "already-exists"
	slugNotTerminal          slug = "not-terminal"
	slugNotWaiting           slug = "not-waiting"
	slugWaitEnded            slug = "wait-ended"
	slugUnauthenticated      slug = "unauthenticated"
	slugInvalidRequest       slug = "invalid-request"
	slugInvalidValue         slug = "invalid-value"
	slugIdempotencyKeyReused slug = "idempotency-key-reused"
	slugPreconditionRequired slug = "precondition-required"
	slugPayloadTooLarge      slug = "payload-too-large"
	slugUnsupportedMediaType slug = "unsupported-media-type"
	slugMethodNotAllowed     slug = "method-not-allowed"
	slugForbidden            slug = "forbidden"
	slugTooManyRequests      slug = "too-many-requests"
	slugOverloaded           slug = "overloaded"
	slugUnavailable          slug = "unavailable"
	slugInternal             slug = "internal"
)

// problem is one error answer (RFC 9457). Zero extension fields are left out.
type problem struct {
	slug           slug
	detail         string
	errors         []fieldError
	conflict       *flows.RevisionConflict
	flowStatus     flows.Status
	from, to       flows.Status
	allow          string // the Allow header
	challenge      string // the WWW-Authenticate header; a 401 and a 403 have one in any case
	retryAfter     int    // the Retry-After header, in seconds; a 503 has one in any case
	outcomeUnknown bool
	cause          error // for the log only
}

type fieldError struct{ pointer, detail string }

func newProblem(s slug, detail string) *problem { return &problem{slug: s, detail: detail} }

func (p *problem) Error() string { return string(p.slug) + ": " + p.detail }

// problemOf is the one mapping from what went wrong to what is answered.
func problemOf(err error) *problem {
	var (
		p        *problem
		conflict *flows.RevisionConflict
		terminal *flows.AlreadyTerminal
		illegal  *flows.IllegalTransition
		invalid  *flows.InvalidValue
		open     *flows.TooManyOpen
		refused  *auth.Refused
		noOwner  *auth.NoOwner
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &conflict):
		p = newProblem(slugRevisionConflict, fmt.Sprintf("The flow is at revision %d, not at %d.", conflict.Flow.Revision, conflict.Expected))
		p.conflict = conflict
		return p
	case errors.As(err, &terminal):
		p = newProblem(slugAlreadyTerminal, fmt.Sprintf("The flow is %s; nothing changes it any more.", terminal.Status))
		p.flowStatus = terminal.Status
		return p
	case errors.As(err, &illegal):
		p = newProblem(slugIllegalTransition, fmt.Sprintf("A flow that is %s cannot become %s.", illegal.From, illegal.To))
		p.from, p.to = illegal.From, illegal.To
		return p
	case errors.As(err, &invalid):
		p = newProblem(slugInvalidValue, "The body has a value that is not allowed.")
		for _, f := range invalid.Fields {
			p.errors = append(p.errors, fieldError{f.Pointer, f.Detail})
		}
		return p
	case errors.As(err, &open):
		return tooMany(fmt.Sprintf("You have %d open flows, and may have %d.", open.Open, open.Max), openPause)
	case errors.As(err, &refused):
		return &problem{slug: slugUnauthenticated, detail: refused.Reason, challenge: bearer + `, error="invalid_token"`}
	case errors.As(err, &noOwner):
		return &problem{slug: slugForbidden, detail: fmt.Sprintf("The token does not say whose flows it is for: it needs the claim %s.", noOwner.Claim), challenge: noScope}
	}
	for _, known := range sentinels {
		if errors.Is(err, known.err) {
			return &problem{slug: known.slug, detail: known.detail, outcomeUnknown: known.outcomeUnknown, challenge: known.challenge, cause: err}
		}
	}
	return &problem{slug: slugInternal, detail: "Something went wrong here. The log has the rest, under the request's id.", cause: err}
}

// sentinels are looked through in this order: an unknown outcome may wrap what led to it.
var sentinels = []struct {
	err            error
	slug           slug
	detail         string
	outcomeUnknown bool
	challenge      string
}{
	{store.ErrOutcomeUnknown, slugUnavailable, "The change may or may not have been made. Repeat it with the same Idempotency-Key to find out.", true, ""},
	{store.ErrUnavailable, slugUnavailable, "The database cannot be reached. Nothing was changed.", false, ""},
	{engine.ErrStopped, slugUnavailable, "The server is shutting down. Nothing was changed.", false, ""},
	{engine.ErrOverloaded, slugOverloaded, "Too many changes are waiting. Nothing was changed.", false, ""},
	{engine.ErrKeyReused, slugIdempotencyKeyReused, "This Idempotency-Key was sent before, with another method, path, If-Match or body.", false, ""},
	{flows.ErrNotFound, slugNotFound, "There is no such flow or step.", false, ""},
	{flows.ErrCancelPending, slugCancelPending, "The flow's cancel was requested; it accepts nothing but a cancel.", false, ""},
	{flows.ErrAlreadyExists, slugAlreadyExists, "This id is taken.", false, ""},
	{flows.ErrNotTerminal, slugNotTerminal, "Only a flow that has ended can be erased.", false, ""},
	{flows.ErrWaitEnded, slugWaitEnded, "The wait that this URL was for has ended.", false, ""},
	{flows.ErrUnverified, slugUnauthenticated, "The body must be signed, and the signature does not match.", false, "Signature"},
	{flows.ErrForeignOwner, slugForbidden, "Your credentials are not for flows of this owner.", false, noScope},
	{auth.ErrNoCredentials, slugUnauthenticated, "Say who you are: Authorization: Bearer, and an API key or a token.", false, bearer},
	{auth.ErrUnavailable, slugUnavailable, "It cannot be found out now whether your credentials are good. Nothing was changed.", false, ""},
	{flows.ErrStateTooLarge, slugPayloadTooLarge, "The state would be over the limit after this change.", false, ""},
	{context.DeadlineExceeded, slugUnavailable, "The request took too long.", false, ""},
	{context.Canceled, slugUnavailable, "The request was given up.", false, ""},
}

// retryAfter is how many seconds a client is asked to wait after a 503.
const retryAfter = 1

// status is the HTTP status of the problem's slug.
func (p *problem) status() int { return catalogue[p.slug].status }

// wire is the problem as JSON; urls makes the URLs of a flow's callbacks. The types of extension fields follow api/openapi.yaml.
func (p *problem) wire(instance string, urls urls) []byte {
	entry := catalogue[p.slug]
	out := wireProblem{
		Type: "/problems/" + string(p.slug), Title: entry.title, Status: entry.status, Detail: p.detail, Instance: instance,
		FlowStatus: p.flowStatus, From: p.from, To: p.to, OutcomeUnknown: p.outcomeUnknown,
	}
	for _, e := range p.errors {
		out.Errors = append(out.Errors, wireFieldError{e.pointer, e.detail})
	}
	if p.conflict != nil {
		out.Expected, out.Actual = &p.conflict.Expected, &p.conflict.Flow.Revision
		out.Flow = appendFlow(nil, p.conflict.Flow, true, urls(p.conflict.Flow))
	}
	return marshal(out)
}

type wireProblem struct {
	Type           string           `json:"type"`
	Title          string           `json:"title"`
	Status         int              `json:"status"`
	Detail         string           `json:"detail"`
	Instance       string           `json:"instance"`
	Errors         []wireFieldError `json:"errors,omitempty"`
	Expected       *int64           `json:"expected,omitempty"`
	Actual         *int64           `json:"actual,omitempty"`
	Flow           json.RawMessage  `json:"flow,omitempty"`
	FlowStatus     flows.Status     `json:"flow_status,omitempty"`
	From           flows.Status     `json:"from,omitempty"`
	To             flows.Status     `json:"to,omitempty"`
	OutcomeUnknown bool             `json:"outcome_unknown,omitempty"`
}

type wireFieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// writeProblem answers a request with what went wrong, tells the observer, and logs what is the server's fault.
func (a *api) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	a.options.Observer.Problem(string(p.slug))
	id := requestID(r.Context())
	header := w.Header()
	switch {
	case p.conflict != nil:
		header.Set("ETag", etag(p.conflict.Flow))
	case p.status() == http.StatusUnauthorized || p.status() == http.StatusForbidden:
		header.Set("WWW-Authenticate", cmp.Or(p.challenge, bearer))
	case p.allow != "":
		header.Set("Allow", p.allow)
	}
	if p.status() >= 500 {
		a.log.ErrorContext(r.Context(), "request failed", "request_id", id, requestOf(r.Context()).traceID(), "method", r.Method, "route", route(r), "problem", p.slug, "error", p.cause)
	}
	switch {
	case p.retryAfter > 0:
		header.Set("Retry-After", strconv.Itoa(p.retryAfter))
	case p.status() == http.StatusServiceUnavailable:
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	reply{status: p.status(), contentType: "application/problem+json", body: p.wire(id, a.waitURLs(r.Context()))}.write(w)
}
