package flows

// Transition is one allowed move of the state machine.
type Transition struct {
	From Status
	Verb Verb
	To   Status
}

// Verb names the command that makes a move, as it stands in the path of its call.
type Verb string

const (
	VerbStart  Verb = "start"
	VerbWait   Verb = "wait"
	VerbResume Verb = "resume"
	VerbFinish Verb = "finish"
	VerbFail   Verb = "fail"
	VerbCancel Verb = "cancel"
)

// Transitions is the whole state machine. The code, its tests and the diagram in docs/ARCHITECTURE.md are fed by it;
// a move that is not listed is refused.
var Transitions = []Transition{
	{Created, VerbStart, Running},
	{Created, VerbCancel, Cancelled},
	{Running, VerbWait, Waiting},
	{Running, VerbFinish, Finished},
	{Running, VerbFail, Failed},
	{Running, VerbCancel, Cancelled},
	{Waiting, VerbResume, Running},
	{Waiting, VerbFail, Failed},
	{Waiting, VerbCancel, Cancelled},
}

// target is the status a verb leads to, from wherever it is allowed.
func (v Verb) target() Status {
	for _, t := range Transitions {
		if t.Verb == v {
			return t.To
		}
	}
	return ""
}

// allowed reports whether the verb is a move from this status.
func (v Verb) allowed(from Status) bool {
	for _, t := range Transitions {
		if t.Verb == v && t.From == from {
			return true
		}
	}
	return false
}
