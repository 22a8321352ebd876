package pg

import (
	"bytes"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Every column that is written here comes out as pgx writes it, byte for byte: values, nulls, none at all, and no array.
func TestColumnsAreWrittenAsPgxDoes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 4, 23, 15, 0, 0, 123456789, time.FixedZone("east", 7200))
	before := time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC)
	for name, c := range map[string]struct {
		oid   uint32
		value any
	}{
		"uuid":           {pgtype.UUIDArrayOID, [][16]byte{{1, 2, 15: 3}, {}}},
		"text":           {pgtype.TextArrayOID, []string{"a", "", "é \" {},"}},
		"json":           {pgtype.JSONArrayOID, [][]byte{[]byte(`{"n": 1.10}`), nil, []byte(`null`)}},
		"bytea":          {pgtype.ByteaArrayOID, [][]byte{{0, 1, 255}, {}, nil}},
		"times":          {pgtype.TimestamptzArrayOID, []time.Time{at, before, {}}},
		"times or none":  {pgtype.TimestamptzArrayOID, []*time.Time{&at, nil, &before}},
		"large integers": {pgtype.Int8ArrayOID, []int64{-1, 0, 1 << 62}},
		"integers":       {pgtype.Int4ArrayOID, []int32{-1, 0, 1 << 30}},
		"flags":          {pgtype.BoolArrayOID, []bool{true, false}},
		"none":           {pgtype.TextArrayOID, []string{}},
		"no array":       {pgtype.TextArrayOID, []string(nil)},
		"many":           {pgtype.TextArrayOID, make([]string, 5000)},
		// These are pgx's still.
		"texts or none": {pgtype.TextArrayOID, []*string{nil}},
		"uuids or none": {pgtype.UUIDArrayOID, []*[16]byte{nil, {1}}},
	} {
		t.Run(name, func(t *testing.T) {
			own, usual := pgtype.NewMap(), pgtype.NewMap()
			prepareArrays(own)
			const there = "what stood there"
			got, err := own.Encode(c.oid, pgtype.BinaryFormatCode, c.value, []byte(there))
			if err != nil {
				t.Fatal(err)
			}
			want, err := usual.Encode(c.oid, pgtype.BinaryFormatCode, c.value, []byte(there))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("written\n%x\npgx writes\n%x", got, want)
			}
		})
	}
}

// Arrays are read as before, and written as text where a connection asks for text.
func TestColumnsInOtherWays(t *testing.T) {
	t.Parallel()
	m := pgtype.NewMap()
	prepareArrays(m)
	text, err := m.Encode(pgtype.TextArrayOID, pgtype.TextFormatCode, []string{"a", "b c"}, nil)
	if err != nil || string(text) != `{a,"b c"}` && string(text) != `{a,b c}` {
		t.Errorf("as text: %s, %v", text, err)
	}
	binary, err := m.Encode(pgtype.Int8ArrayOID, pgtype.BinaryFormatCode, []int64{7, 8}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var back []int64
	if err := m.Scan(pgtype.Int8ArrayOID, pgtype.BinaryFormatCode, binary, &back); err != nil || len(back) != 2 || back[1] != 8 {
		t.Errorf("read back: %v, %v", back, err)
	}
}
