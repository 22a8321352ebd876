package pg

import (
	"math"
	"strconv"
	"strings"
	"time"

	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// statement gathers a statement's text and its arguments.
type statement struct {
	text strings.Builder
	args []any
}

// add appends text, in which each ? stands for the next argument. The text is always a constant of this package.
func (s *statement) add(text string, args ...any) {
	for _, arg := range args {
		before, after, _ := strings.Cut(text, "?")
		s.args = append(s.args, arg)
		s.text.WriteString(before + "$" + strconv.Itoa(len(s.args)))
		text = after
	}
	s.text.WriteString(text)
}

// within adds the range of an index between two places, both excluded, and its order. columns are all of the index's; more
// adds conditions.
//
// The range is one comparison of whole rows, and the order names every column, the leading one too, though all rows of
// the range agree in it: so no other index has the order. Were it an equation, the planner could take the index on the
// creation time alone for an owner with many flows, and read past everybody else's to find that his are all old.
func (s *statement) within(columns string, low, high []any, desc bool, more ...func()) {
	marks := strings.Repeat(", ?", len(low))[2:]
	s.add(` where (`+columns+`) > (`+marks+`)`, low...)
	s.add(` and (`+columns+`) < (`+marks+`)`, high...)
	for _, add := range more {
		add()
	}
	if desc {
		columns = strings.ReplaceAll(columns, `,`, ` desc,`) + ` desc`
	}
	s.add(` order by ` + columns)
}

// place is a place in an order by creation.
type place struct {
	at pgtype.Timestamptz
	id uuid.UUID
}

// after is the place within what has the given values in the index's leading columns.
func (p place) after(leading ...any) []any { return append(leading, p.at, [16]byte(p.id)) }

// always is the range of all times.
func always() (low, high place) {
	return place{pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}, uuid.Nil},
		place{pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}, uuid.Max}
}

func placeAt(at time.Time, id uuid.UUID) place {
	return place{pgtype.Timestamptz{Time: at, Valid: true}, id}
}

// span is the range of creation that a page is read from: the query's bounds and what the pages before have left.
func span(q *store.FlowQuery) (low, high place) {
	low, high = always()
	if q.CreatedAfter != nil {
		low = placeAt(*q.CreatedAfter, uuid.Max)
	}
	if q.CreatedBefore != nil {
		high = placeAt(*q.CreatedBefore, uuid.Nil)
	}
	if q.From == nil {
		return low, high
	}
	// A page before lay within the bounds, so where it ended is the narrower one.
	from := placeAt(q.From.Time, q.From.ID)
	if desc(q) {
		return low, from
	}
	return from, high
}

// seqSpan is the range of event numbers that a page is read from.
func seqSpan(from *int64, desc bool) (low, high int64) {
	low, high = 0, math.MaxInt64
	switch {
	case from == nil:
	case desc:
		high = *from
	default:
		low = *from
	}
	return low, high
}

// desc reports whether the newest come first, as they do by default.
func desc(q *store.FlowQuery) bool { return q.Order == "" || q.Order.Desc() }
