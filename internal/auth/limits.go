package auth

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxRated is how many callers a Rate remembers.
const maxRated = 10_000

// Rate bounds the requests a second of each caller at this server.
type Rate struct {
	perSecond float64
	burst     int

	mu      sync.Mutex // guards callers, and is held from a look at what one has left until it is taken
	callers map[string]*rate.Limiter
}

// NewRate allows so many requests a second to each caller, and burst of them at once.
func NewRate(perSecond float64, burst int) *Rate {
	return &Rate{perSecond: perSecond, burst: burst, callers: map[string]*rate.Limiter{}}
}

// Allow counts a request of a caller. Where it is one too many, wait is when to come again.
func (r *Rate) Allow(caller string, now time.Time) (wait time.Duration, ok bool) {
	return r.allow(caller, 1, 1, 1, now)
}

// AllowMore counts what comes within a request that was allowed: all of it, or nothing where it is too much. What is more than
// may come at once passes for whoever has sent nothing before, and is paid for afterwards: until then nothing else passes.
func (r *Rate) AllowMore(caller string, requests int, now time.Time) (wait time.Duration, ok bool) {
	return r.allow(caller, requests, min(requests, r.burst-1), min(requests+1, r.burst), now)
}

// allow counts requests of a caller that has enough left. Where it has not, wait is until it has what a repeat takes.
func (r *Rate) allow(caller string, requests, enough, repeat int, now time.Time) (wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter := r.of(caller, now)
	left := limiter.TokensAt(now)
	until := func(tokens int) float64 { // in nanoseconds
		return (float64(tokens) - left) / r.perSecond * float64(time.Second)
	}
	if until(enough) >= 1 { // less is an error of rounding
		return time.Duration(math.Ceil(until(repeat))), false
	}
	r.pay(limiter, requests, now)
	return 0, true
}

// pay takes requests from what a caller has left, and more than that: a limiter's tokens may go below nothing, but no more than
// its burst at a time.
func (r *Rate) pay(limiter *rate.Limiter, requests int, now time.Time) {
	for ; requests > 0; requests -= r.burst {
		limiter.ReserveN(now, min(requests, r.burst))
	}
}

// of is a caller's limiter. r.mu is held.
func (r *Rate) of(caller string, now time.Time) *rate.Limiter {
	limiter := r.callers[caller]
	if limiter == nil {
		if len(r.callers) >= maxRated {
			r.forget(now)
		}
		limiter = rate.NewLimiter(rate.Limit(r.perSecond), r.burst)
		r.callers[caller] = limiter
	}
	return limiter
}

// forget makes room: callers whose allowance is whole again lose nothing by it. Where there is none, one of the others
// gets a new allowance early.
func (r *Rate) forget(now time.Time) {
	for caller, limiter := range r.callers {
		if limiter.TokensAt(now) >= float64(r.burst) {
			delete(r.callers, caller)
		}
	}
	for caller := range r.callers {
		if len(r.callers) < maxRated {
			return
		}
		delete(r.callers, caller)
	}
}

// Streams bounds how many streams each caller has open at this server.
type Streams struct {
	most int

	mu   sync.Mutex // guards open
	open map[string]int
}

// NewStreams allows so many streams to each caller.
func NewStreams(most int) *Streams { return &Streams{most: most, open: map[string]int{}} }

// Acquire counts a stream of a caller until release is called, which is safe to call again; ok is false where the caller
// has as many as it may.
func (s *Streams) Acquire(caller string) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[caller] >= s.most {
		return nil, false
	}
	s.open[caller]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[caller]--; s.open[caller] <= 0 {
			delete(s.open, caller)
		}
	}), true
}
