package httpapi

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"taskflow/internal/auth"
)

// access is what a call needs of its caller. The zero value lets nobody in.
type access struct {
	open  bool       // anybody may, without credentials
	scope auth.Scope // a caller with this scope may
	parts bool       // any caller may: each part of the call is looked at as if it came alone
}

// accessOf is the one table of who may do what, by operation of the contract. What is not in it stops the start.
func accessOf() map[string]access {
	anybody := access{open: true}
	read, write := access{scope: auth.ReadFlows}, access{scope: auth.WriteFlows}
	return map[string]access{
		"getLivez":         anybody,
		"getReadyz":        anybody,
		"showCallback":     anybody, // the URL is the capability
		"endByCallback":    anybody,
		"rejectByCallback": anybody,

		"listFlows":          read,
		"getFlow":            read,
		"explainFlowWait":    read,
		"listSteps":          read,
		"getStep":            read,
		"listFlowEvents":     read,
		"listEvents":         read,
		"listExternalEvents": read,
		"getExternalEvent":   read,
		"getStats":           read,

		"createFlow":        write,
		"deleteFlow":        write,
		"startFlow":         write,
		"setFlowWaiting":    write,
		"resumeFlow":        write,
		"finishFlow":        write,
		"failFlow":          write,
		"requestCancelFlow": write,
		"cancelFlow":        write,
		"updateFlowState":   write,
		"observeStep":       write,
		"runBatch":          {parts: true},

		"publishExternalEvent": {scope: auth.WriteEvents},
	}
}

// callerOf is who sent a request; before authorize, and at a callback, it is nobody.
func callerOf(ctx context.Context) auth.Caller {
	if r := requestOf(ctx); r != nil {
		return r.caller
	}
	return auth.Caller{}
}

// authorize lets a request pass whose caller may make it. It runs behind the router and before the body is read.
func (a *api) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := a.operationOf(r)
		requestOf(r.Context()).operation = op
		a.letIn(w, r, op.access, next)
	})
}

// only lets requests pass whose callers have a scope, to what is no operation of the contract.
func (a *api) only(scope auth.Scope) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.letIn(w, r, access{scope: scope}, next)
		})
	}
}

func (a *api) letIn(w http.ResponseWriter, r *http.Request, need access, next http.Handler) {
	if !need.open {
		err := a.checkHost(r)
		if err == nil {
			err = a.admit(r, need)
		}
		if err != nil {
			if callerOf(r.Context()).ID == "" && r.ContentLength != 0 {
				w.Header().Set("Connection", "close") // a stranger's body is not waited for
			}
			a.writeProblem(w, r, err)
			return
		}
	}
	next.ServeHTTP(w, r)
}

// checkHost refuses a request for a host that is not this server's, where that is looked at. Without it a page of a site
// whose name its owner has resolve to 127.0.0.1 is of the same origin as this server, to the browser, and may do whatever
// who sits before it may. A request that names no host is not a browser's.
func (a *api) checkHost(r *http.Request) error {
	if a.options.OnlyHosts == nil || r.Host == "" {
		return nil
	}
	host := plainHost(r.Host)
	if auth.Loopback(host) {
		return nil
	}
	for _, own := range a.options.OnlyHosts {
		if plainHost(own) == host {
			return nil
		}
	}
	return newProblem(slugForbidden, "The request is for a host that this server does not know. Without authentication it answers for "+
		"localhost and the hosts of TASKFLOW_PUBLIC_URL, TASKFLOW_LISTEN and TASKFLOW_CORS_ORIGINS.")
}

// plainHost is a host without its port, in the one form in which hosts are compared.
func plainHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// operationOf is the operation that a request was routed to.
func (a *api) operationOf(r *http.Request) *operation {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return a.operations[method+" "+r.Pattern]
}

// admit finds out who sent a request, and whether they may.
func (a *api) admit(r *http.Request, need access) error {
	caller, err := a.options.Gate.Caller(r.Context(), r.Header.Values("Authorization"))
	if err != nil {
		return err
	}
	requestOf(r.Context()).caller = caller
	if caller.Limited && a.options.Rate != nil {
		if wait, ok := a.options.Rate.Allow(caller.ID, time.Now()); !ok {
			return tooMany(overRate, wait)
		}
	}
	if need.parts {
		return nil
	}
	return allowed(caller, need.scope)
}

// recheck is how often the credentials of the caller of a stream or a wait are looked at, and how long a body may take until
// its sender's are looked at once more. With the age of the keys that are looked at, it keeps a revoked one from another event
// and from a change after 5 s.
const recheck = time.Second

// stillAllowed looks at a caller's credentials once more: they may have been revoked, or have expired, since the request began.
func (a *api) stillAllowed(ctx context.Context, need access) error {
	if need.open {
		return nil
	}
	r := requestOf(ctx)
	caller, err := a.options.Gate.Caller(ctx, r.credentials)
	if err != nil {
		return err
	}
	if caller.Owners != r.caller.Owners {
		return newProblem(slugForbidden, "Your credentials now cover other owners.")
	}
	if need.parts {
		return nil
	}
	return allowed(caller, need.scope)
}

// mayStillRead is stillAllowed for the caller of a stream or a wait.
func (a *api) mayStillRead(ctx context.Context) error {
	return a.stillAllowed(ctx, access{scope: auth.ReadFlows})
}

const overRate = "You send more requests a second than this server takes from one caller; each command of a batch is one."

// allowed refuses a caller without a scope.
func allowed(caller auth.Caller, scope auth.Scope) error {
	if caller.May(scope) {
		return nil
	}
	p := newProblem(slugForbidden, fmt.Sprintf("This needs the scope %s, which your credentials do not have.", scope))
	p.challenge = noScope + fmt.Sprintf(`, scope="%s"`, scope)
	return p
}

// The challenges of RFC 6750: how a caller says who it is, and that who it is does not suffice.
const (
	bearer  = `Bearer realm="taskflow"`
	noScope = bearer + `, error="insufficient_scope"`
)

// openPause is when a caller with too many open flows is asked to come again.
const openPause = time.Minute

// tooMany asks a caller to come again after a while.
func tooMany(detail string, wait time.Duration) *problem {
	p := newProblem(slugTooManyRequests, detail+" Nothing was changed.")
	p.retryAfter = max(1, int(math.Ceil(wait.Seconds())))
	return p
}
