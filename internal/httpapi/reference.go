package httpapi

import (
	"cmp"
	"slices"
)

// ProblemKind is what is fixed about one type of problem, for the reference.
type ProblemKind struct {
	Slug   string // the end of its type, /problems/<slug>
	Status int
	Title  string
	About  string // when it is the answer, in words
}

// Problems lists every type of problem there is, by status and slug.
func Problems() []ProblemKind {
	var all []ProblemKind
	for slug, kind := range catalogue {
		all = append(all, ProblemKind{string(slug), kind.status, kind.title, kind.about})
	}
	slices.SortFunc(all, func(a, b ProblemKind) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Slug, b.Slug))
	})
	return all
}

// ScopeOf is the scope that a caller of an operation needs; "" where it needs none.
func ScopeOf(operationID string) string { return string(accessOf()[operationID].scope) }
