package pg

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// encoded is a value in the binary format of a type.
func encoded(t *testing.T, oid uint32, value any) []byte {
	t.Helper()
	out, err := pgtype.NewMap().Encode(oid, pgtype.BinaryFormatCode, value, []byte{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Columns are read as they were written, in their order.
func TestFields(t *testing.T) {
	t.Parallel()
	at := time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	id := [16]byte{1, 15: 2}
	f := fields{left: [][]byte{
		encoded(t, pgtype.UUIDOID, id), encoded(t, pgtype.Int8OID, int64(math.MinInt64)), encoded(t, pgtype.Int4OID, int32(-7)),
		encoded(t, pgtype.BoolOID, true), encoded(t, pgtype.BoolOID, false), encoded(t, pgtype.TimestamptzOID, at),
		nil, encoded(t, pgtype.TimestamptzOID, at), []byte("running"), []byte("strolling"), {}, nil, []byte("{}"),
	}}
	if got := f.uuid(); got != id {
		t.Errorf("id %x", got)
	}
	if a, b := f.bigint(), f.integer(); a != math.MinInt64 || b != -7 {
		t.Errorf("numbers %d and %d", a, b)
	}
	if a, b := f.boolean(), f.boolean(); !a || b {
		t.Errorf("flags %v and %v", a, b)
	}
	if got := f.time(); got != at {
		t.Errorf("time %v", got)
	}
	if none, some := orNull(&f, (*fields).time), orNull(&f, (*fields).time); none != nil || some == nil || *some != at {
		t.Errorf("times %v and %v", none, some)
	}
	if a, b, c := f.word(), f.word(), f.text(); a != "running" || b != "strolling" || c != "" {
		t.Errorf("texts %q, %q and %q", a, b, c)
	}
	if none, some := f.bytes(), f.bytes(); none != nil || string(some) != "{}" {
		t.Errorf("JSON %v and %s", none, some)
	}
	if err := f.done("a row"); err != nil {
		t.Error(err)
	}
}

// A row that is not as it should be is an error that says so, and no fault.
func TestFieldsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		columns [][]byte
		read    func(*fields)
	}{
		"of 2 bytes where there should be 8":  {[][]byte{{1, 2}}, func(f *fields) { f.time() }},
		"of 0 bytes where there should be 16": {[][]byte{nil}, func(f *fields) { f.uuid() }},
		"null":                                {[][]byte{nil}, func(f *fields) { _ = f.text() }},
		"fewer columns":                       {nil, func(f *fields) { f.boolean() }},
		"1 more":                              {[][]byte{{1}}, func(*fields) {}},
		"of 1 bytes":                          {[][]byte{{1}, {1}}, func(f *fields) { f.bigint(); f.bigint() }},
	} {
		f := fields{left: c.columns}
		c.read(&f)
		if err := f.done("a row"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
