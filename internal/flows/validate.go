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
	if a.Details != nil && !isObject(a.Details) {
		v.add("/wait/details", "must be an object")
	}
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
