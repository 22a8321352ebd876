package flows

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits on the values of commands, in characters unless named otherwise.
const (
	MaxLabel      = 256 // controller, owner, requester, step and session labels, run ids
	MaxText       = 4096
	MaxLabels     = 32 // entries
	MaxLabelKey   = 63
	MaxLabelValue = 255
	MaxConditions = 16 // of an any_of
)

var tooManyLabels = fmt.Sprintf("a flow has at most %d labels", MaxLabels)

// Validate answers [*InvalidValue] where the command holds a value that is never allowed, whatever flow it names.
func (c Command) Validate() error {
	var v values
	c.Action.validate(&v)
	if len(v.errors) > 0 {
		return &InvalidValue{v.errors}
	}
	return nil
}

// values collects what is wrong with a command.
type values struct{ errors []FieldError }

func (v *values) add(pointer, format string, args ...any) {
	v.errors = append(v.errors, FieldError{pointer, fmt.Sprintf(format, args...)})
}

// ValidText reports whether both databases can hold s as text.
func ValidText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// text checks a string's length and that both databases can hold it.
func (v *values) text(pointer, s string, least, most int) {
	switch n := utf8.RuneCountInString(s); {
	case !ValidText(s):
		v.add(pointer, "must be valid UTF-8 without NUL")
	case n < least:
		v.add(pointer, "must not be empty")
	case n > most:
		v.add(pointer, "must have at most %d characters, has %d", most, n)
	}
}

func (v *values) optional(pointer string, s *string, least, most int) {
	if s != nil {
		v.text(pointer, *s, least, most)
	}
}

func (v *values) label(key string, value *string) {
	pointer := "/labels/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
	v.text(pointer, key, 1, MaxLabelKey)
	v.optional(pointer, value, 0, MaxLabelValue)
}

func oneOf[T ~string](v *values, pointer string, value T, allowed []T) {
	if !slices.Contains(allowed, value) {
		v.add(pointer, "must be one of %v", allowed)
	}
}

var modes = []Mode{Managed, Mirrored}

func (a Create) validate(v *values) {
	oneOf(v, "/mode", a.Mode, modes)
	v.text("/controller_id", a.ControllerID, 1, MaxLabel)
	v.text("/goal", a.Goal, 1, MaxText)
	v.text("/owner_session_key", a.OwnerSessionKey, 1, MaxLabel)
	v.text("/requester_origin", a.RequesterOrigin, 0, MaxLabel)
	v.text("/current_step", a.CurrentStep, 0, MaxLabel)
	if len(a.Labels) > MaxLabels {
		v.add("/labels", "%s", tooManyLabels)
	}
	for key, value := range a.Labels {
		v.label(key, &value)
	}
}

func (Start) validate(*values) {}

func (a SetWait) validate(v *values) {
	oneOf(v, "/wait/kind", a.Kind, WaitKinds)
	if a.Kind == WaitAnyOf && (len(a.Conditions) < 2 || len(a.Conditions) > MaxConditions) {
		v.add("/wait/conditions", "must be 2 to %d conditions", MaxConditions)
	}
	if a.Kind != WaitAnyOf && slices.Contains(WaitKinds, a.Kind) && !a.alone() {
		v.add("/wait", "must be one condition, of the wait's own kind")
	}
	for i, c := range a.Conditions {
		c.validate(v, a.pointer(i), a.Kind == WaitAnyOf)
	}
	if t := a.Timeout; t != nil {
		t.When.validate(v, "/wait/timeout")
		oneOf(v, "/wait/timeout/on_timeout", t.Then, timeoutActions)
		if t.Patch != nil && t.Then != TimeoutResumes {
			v.add("/wait/timeout/state_patch", "goes with on_timeout resume only")
		}
	}
	if a.Details != nil && !isObject(a.Details) {
		v.add("/wait/details", "must be an object")
	}
}

// alone reports whether the wait has one condition, of its own kind; a manual one needs none.
func (a SetWait) alone() bool {
	if len(a.Conditions) == 0 {
		return a.Kind == WaitManual
	}
	return len(a.Conditions) == 1 && a.Conditions[0].Kind == a.Kind
}

var (
	timeoutActions = []TimeoutAction{TimeoutResumes, TimeoutFails, TimeoutCancels}
	conditionKinds = []WaitKind{WaitTimer, WaitExternalEvent, WaitCallback, WaitManual}
)

func (c ConditionSpec) validate(v *values, pointer string, nested bool) {
	if nested {
		oneOf(v, pointer+"/kind", c.Kind, conditionKinds)
	}
	switch c.Kind {
	case WaitTimer:
		c.When.validate(v, pointer)
	case WaitExternalEvent:
		c.Pair.validate(v, pointer)
	case WaitCallback:
		if c.Verify != nil {
			oneOf(v, pointer+"/verify/scheme", c.Verify.Scheme, VerifySchemes)
			v.text(pointer+"/verify/header", c.Verify.Header, 0, MaxLabel)
			v.text(pointer+"/verify/secret", c.Verify.Secret, 1, MaxText)
		}
	}
}

func (p Pair) validate(v *values, pointer string) {
	v.text(pointer+"/topic", p.Topic, 1, MaxLabel)
	v.text(pointer+"/correlation_id", p.CorrelationID, 1, MaxLabel)
}

// validate checks that exactly one way of naming a time is used.
func (w When) validate(v *values, pointer string) {
	if (w.At == nil) == (w.After == nil) {
		v.add(pointer, "needs exactly one of at and after")
	}
}

func (FireDue) validate(*values) {}

func (EndByEvent) validate(*values) {}

func (EndByCallback) validate(*values) {}

// Validate answers [*InvalidValue] where the event holds a value that is never allowed.
func (e *ExternalEvent) Validate() error {
	var v values
	e.Pair.validate(&v, "")
	if len(v.errors) > 0 {
		return &InvalidValue{v.errors}
	}
	return nil
}

func (Resume) validate(*values) {}

func (Finish) validate(*values) {}

func (a Fail) validate(v *values) { v.text("/reason", a.Reason, 1, MaxText) }

func (a RequestCancel) validate(v *values) { v.optional("/reason", a.Reason, 0, MaxText) }

func (a Cancel) validate(v *values) { v.optional("/reason", a.Reason, 0, MaxText) }

func (a UpdateState) validate(v *values) {
	v.optional("/current_step", a.CurrentStep, 1, MaxLabel)
	v.optional("/goal", a.Goal, 1, MaxText)
	for key, value := range a.Labels {
		v.label(key, value)
	}
}

func (a ObserveStep) validate(v *values) {
	v.text("/run_id", a.RunID, 1, MaxLabel)
	v.text("/task", a.Task, 1, MaxText)
	oneOf(v, "/status", a.Status, StepStatuses)
	if a.Runtime != nil {
		oneOf(v, "/runtime", *a.Runtime, modes)
	}
	v.optional("/child_session_key", a.ChildSessionKey.Value, 1, MaxLabel)
}

func (Erase) validate(*values) {}
