package httpapi

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"taskflow/internal/auth"
	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"
	"taskflow/internal/store"

	"github.com/sosodev/duration"
)

// waitAction makes a wait of its request. What does not belong to its kind is refused, as an unknown field is.
func (a *api) waitAction(b oas.SetWaiting) (flows.Action, error) {
	action := flows.SetWait{
		Kind: flows.WaitKind(b.Wait.Kind), Details: b.Wait.Details, Horizon: a.options.TimerHorizon,
	}
	var form fieldErrors
	if conditions := b.Wait.Conditions; b.Wait.Kind == oas.WaitAnyOf {
		form.need("/wait/conditions", conditions != nil)
		for i, c := range value(conditions) {
			action.Conditions = append(action.Conditions, a.condition(&form, "/wait/conditions/"+strconv.Itoa(i), c))
		}
		form.none("/wait", oas.ConditionRequest{At: b.Wait.At, After: b.Wait.After, Topic: b.Wait.Topic, CorrelationId: b.Wait.CorrelationId, Verify: b.Wait.Verify})
	} else {
		form.refuse("/wait/conditions", conditions != nil)
		action.Conditions = []flows.ConditionSpec{a.condition(&form, "/wait", oas.ConditionRequest{
			Kind: oas.ConditionKind(b.Wait.Kind), At: b.Wait.At, After: b.Wait.After, Topic: b.Wait.Topic,
			CorrelationId: b.Wait.CorrelationId, Verify: b.Wait.Verify,
		})}
	}
	if t := b.Wait.Timeout; t != nil {
		action.Timeout = &flows.TimeoutSpec{
			When: form.when("/wait/timeout", t.At, t.After), Then: flows.TimeoutAction(t.OnTimeout), Patch: t.StatePatch,
		}
	}
	if err := form.problem(); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(action.Conditions, func(c flows.ConditionSpec) bool { return c.Kind == flows.WaitCallback }) {
		if action.CallbackKey = a.keys.nameWait(); action.CallbackKey == "" {
			return nil, fmt.Errorf("no callback key yet: %w", store.ErrUnavailable)
		}
	}
	if t := action.Timeout; t != nil {
		if err := a.within("/wait/timeout/state_patch", t.Patch); err != nil {
			return nil, err
		}
	}
	return action, a.within("/wait/details", b.Wait.Details)
}

// condition reads one condition.
func (a *api) condition(form *fieldErrors, pointer string, c oas.ConditionRequest) flows.ConditionSpec {
	spec := flows.ConditionSpec{Kind: flows.WaitKind(c.Kind)}
	others := c
	switch c.Kind {
	case oas.ConditionTimer:
		spec.When = form.when(pointer, c.At, c.After)
		others.At, others.After = nil, nil
	case oas.ConditionExternalEvent:
		form.need(pointer+"/topic", c.Topic != nil)
		form.need(pointer+"/correlation_id", c.CorrelationId != nil)
		spec.Pair = flows.Pair{Topic: value(c.Topic), CorrelationID: value(c.CorrelationId)}
		others.Topic, others.CorrelationId = nil, nil
	case oas.ConditionCallback:
		if c.Verify != nil {
			spec.Verify = a.verifier(form, pointer+"/verify", *c.Verify)
		}
		others.Verify = nil
	}
	form.none(pointer, others)
	return spec
}

func (a *api) verifier(form *fieldErrors, pointer string, v oas.VerifyRequest) *flows.Verify {
	form.refuse(pointer+"/header", v.Header != nil && v.Scheme != oas.VerifyHMAC)
	if err := checkSecret(string(v.Scheme), v.Secret); err != nil {
		form.values = append(form.values, fieldError{pointer + "/secret", err.Error()})
	}
	return &flows.Verify{Scheme: string(v.Scheme), Header: value(v.Header), Secret: a.secrets.seal(v.Secret)}
}

// fieldErrors collects what is wrong with the form of a wait, and with values that its form cannot tell.
type fieldErrors struct{ form, values []fieldError }

func (e *fieldErrors) need(pointer string, given bool) {
	if !given {
		e.form = append(e.form, fieldError{pointer, "is missing"})
	}
}

func (e *fieldErrors) refuse(pointer string, given bool) {
	if given {
		e.form = append(e.form, fieldError{pointer, "does not belong to this kind"})
	}
}

// none refuses every field of a condition that is set.
func (e *fieldErrors) none(pointer string, c oas.ConditionRequest) {
	e.refuse(pointer+"/at", c.At != nil)
	e.refuse(pointer+"/after", c.After != nil)
	e.refuse(pointer+"/topic", c.Topic != nil)
	e.refuse(pointer+"/correlation_id", c.CorrelationId != nil)
	e.refuse(pointer+"/verify", c.Verify != nil)
}

// when reads a time or a period; exactly one of them is needed.
func (e *fieldErrors) when(pointer string, at, after *string) flows.When {
	if (at == nil) == (after == nil) {
		e.form = append(e.form, fieldError{pointer, "needs exactly one of at and after"})
	}
	when := flows.When{At: timeOf(at)}
	if after != nil {
		period, err := parsePeriod(*after)
		if err != nil {
			e.values = append(e.values, fieldError{pointer + "/after", err.Error()})
		}
		when.After = &period
	}
	return when
}

// problem is nil where nothing was found.
func (e *fieldErrors) problem() error {
	p := newProblem(slugInvalidValue, "The body has a value that is not allowed.")
	if len(e.form) > 0 {
		p.slug, p.detail = slugInvalidRequest, "The body is not of the form this call takes."
	}
	if p.errors = slices.Concat(e.form, e.values); len(p.errors) == 0 {
		return nil
	}
	return p
}

// maxPeriod bounds each part of a duration, so that sums of them are times.
const maxPeriod = 1e6

var errPeriod = errors.New("must be an ISO 8601 duration like PT15M or P2D, not negative")

// periodForm is the ISO 8601 form: no part twice, in their order, at least one of them. The library takes more.
var periodForm = regexp.MustCompile(`^P(\d+Y)?(\d+M)?(\d+(\.\d+)?W)?(\d+(\.\d+)?D)?(T(\d+(\.\d+)?H)?(\d+(\.\d+)?M)?(\d+(\.\d+)?S)?)?$`)

// parsePeriod reads an ISO 8601 duration. Years and months are those of the calendar and must be whole; a day is 24
// hours.
func parsePeriod(s string) (flows.Period, error) {
	if !periodForm.MatchString(s) || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return flows.Period{}, errPeriod
	}
	d, err := duration.Parse(s)
	if err != nil || d.Years > 9999 || d.Months > 12*9999 {
		return flows.Period{}, errPeriod
	}
	rest := *d
	rest.Years, rest.Months = 0, 0
	hours := ((d.Weeks*7+d.Days)*24 + d.Hours) + d.Minutes/60 + d.Seconds/3600
	if hours > maxPeriod {
		return flows.Period{}, fmt.Errorf("must be at most %d hours beside its years and months", int64(maxPeriod))
	}
	return flows.Period{Years: int(d.Years), Months: int(d.Months), Rest: rest.ToTimeDuration()}, nil
}

// checkPeriod is the contract's format iso-duration.
func checkPeriod(s string) error {
	_, err := parsePeriod(s)
	return err
}

// urls makes the URLs of a flow's callbacks by condition; nil where none are to be shown.
type urls func(*flows.Flow) func(condition int) string

// waitURLs are for a request's caller: whoever has a URL may end the wait, so only those who may end it anyway see one.
func (a *api) waitURLs(ctx context.Context) urls {
	if !callerOf(ctx).May(auth.WriteFlows) {
		return func(*flows.Flow) func(int) string { return nil }
	}
	return a.waitURL
}

// waitURL makes the URLs of a flow's callbacks; nil where it has none.
func (a *api) waitURL(f *flows.Flow) func(condition int) string {
	if f.Wait == nil || f.Wait.CallbackKey == "" {
		return nil
	}
	return func(condition int) string {
		token, ok := a.keys.sign(capability{
			flow: f.ID, generation: f.Wait.Generation, condition: condition, since: f.Wait.Since.UnixMicro(), key: f.Wait.CallbackKey,
		})
		if !ok {
			return ""
		}
		return a.options.PublicURL + "/callbacks/" + token
	}
}
