package pg

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// A batch's columns leave as arrays. pgx looks up how to write each value of one and boxes it, which is a tenth of what a
// change costs this process on its way to the database; here a column is written in one go. The format is that of array_recv
// (src/backend/utils/adt/arrayfuncs.c): dimensions, whether there are nulls, the elements' type, length and lower bound, then
// each value behind its length.

// columnTypes are the types of the arrays that are written here.
var columnTypes = [...]uint32{pgtype.UUIDArrayOID, pgtype.TextArrayOID, pgtype.JSONArrayOID, pgtype.ByteaArrayOID,
	pgtype.TimestamptzArrayOID, pgtype.Int8ArrayOID, pgtype.Int4ArrayOID, pgtype.BoolArrayOID}

// prepareArrays has a connection write its columns so.
func prepareArrays(types *pgtype.Map) {
	for _, oid := range columnTypes {
		t, _ := types.TypeForOID(oid)
		types.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: columnCodec{t.Codec.(*pgtype.ArrayCodec)}})
	}
}

// columnCodec is pgx's own codec of an array, but for columns of the kinds below.
type columnCodec struct{ *pgtype.ArrayCodec }

// PlanEncode implements pgtype.Codec.
func (c columnCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		if plan := columnPlanOf(oid, c.ElementType.OID, value); plan != nil {
			return plan
		}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

// columnPlanOf is how the columns that a batch has are written; nil leaves a value to pgx.
func columnPlanOf(oid, element uint32, value any) pgtype.EncodePlan {
	switch oid {
	case pgtype.UUIDArrayOID:
		return planOf(value, element, func(out []byte, v *[16]byte) ([]byte, bool) { return append(out, v[:]...), true })
	case pgtype.TextArrayOID:
		return planOf(value, element, func(out []byte, v *string) ([]byte, bool) { return append(out, *v...), true })
	case pgtype.JSONArrayOID, pgtype.ByteaArrayOID:
		return planOf(value, element, func(out []byte, v *[]byte) ([]byte, bool) { return append(out, *v...), *v != nil })
	case pgtype.Int8ArrayOID:
		return planOf(value, element, func(out []byte, v *int64) ([]byte, bool) { return binary.BigEndian.AppendUint64(out, uint64(*v)), true })
	case pgtype.Int4ArrayOID:
		return planOf(value, element, func(out []byte, v *int32) ([]byte, bool) { return binary.BigEndian.AppendUint32(out, uint32(*v)), true })
	case pgtype.BoolArrayOID:
		return planOf(value, element, func(out []byte, v *bool) ([]byte, bool) { return appendBool(out, *v), true })
	case pgtype.TimestamptzArrayOID:
		if plan := planOf(value, element, func(out []byte, v *time.Time) ([]byte, bool) { return appendTime(out, *v), true }); plan != nil {
			return plan
		}
		return planOf(value, element, func(out []byte, v **time.Time) ([]byte, bool) {
			if *v == nil {
				return out, false
			}
			return appendTime(out, **v), true
		})
	}
	return nil
}

// planOf writes a []T, each value by add; nil where the value is none.
func planOf[T any](value any, element uint32, add func(out []byte, v *T) ([]byte, bool)) pgtype.EncodePlan {
	if _, ok := value.([]T); !ok {
		return nil
	}
	return columnPlan[T]{element, add}
}

// columnPlan writes a []T. add appends a value in the binary format of its type, or reports false for null.
type columnPlan[T any] struct {
	element uint32
	add     func(out []byte, v *T) ([]byte, bool)
}

// Encode implements pgtype.EncodePlan.
func (p columnPlan[T]) Encode(value any, out []byte) ([]byte, error) {
	const dimensions, lowerBound = 1, 1
	values, order := value.([]T), binary.BigEndian
	out = slices.Grow(out, 20+8*len(values))
	out = order.AppendUint32(out, dimensions)
	nulls := len(out)
	out = order.AppendUint32(out, 0)
	out = order.AppendUint32(out, p.element)
	out = order.AppendUint32(out, uint32(len(values)))
	out = order.AppendUint32(out, lowerBound)
	for i := range values {
		length := len(out)
		var present bool
		out, present = p.add(append(out, 0xff, 0xff, 0xff, 0xff), &values[i]) // null's length is -1
		if present {
			order.PutUint32(out[length:], uint32(len(out)-length-4))
		} else {
			order.PutUint32(out[nulls:], 1)
		}
	}
	return out, nil
}

func appendBool(out []byte, v bool) []byte {
	if v {
		return append(out, 1)
	}
	return append(out, 0)
}

// microsecondsTo2000 is from 1970 to where PostgreSQL counts from.
const microsecondsTo2000 = 946_684_800 * 1_000_000

// appendTime appends microseconds since 2000.
func appendTime(out []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(out, uint64(t.UnixMicro()-microsecondsTo2000))
}
