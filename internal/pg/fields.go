package pg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"taskflow/internal/flows"

	"github.com/jackc/pgx/v5"
)

// fields are the columns of a row, read one after the other from PostgreSQL's binary format; text and JSON are the same in
// both formats. pgx would have a plan and a destination for each, which is most of what reading a flow costs. What goes
// wrong first is kept, and what is read after it is empty.
type fields struct {
	left [][]byte
	err  error
}

func fieldsOf(row pgx.CollectableRow) fields { return fields{left: row.RawValues()} }

// done ends the reading of a row, of which nothing must be left.
func (f *fields) done(what string) error {
	if f.err == nil && len(f.left) > 0 {
		f.err = fmt.Errorf("%d more columns than expected", len(f.left))
	}
	if f.err != nil {
		return fmt.Errorf("reading %s: %w", what, f.err)
	}
	return nil
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

// take is the next column as it came, which is valid until the next row; nil is null.
func (f *fields) take() []byte {
	if len(f.left) == 0 {
		f.fail("fewer columns than expected")
		return nil
	}
	value := f.left[0]
	f.left = f.left[1:]
	return value
}

// fixed is the next column, of a type that has so many bytes.
func (f *fields) fixed(width int) []byte {
	value := f.take()
	if len(value) != width {
		f.fail("a column of %d bytes where there should be %d", len(value), width)
		return make([]byte, width)
	}
	return value
}

func (f *fields) uuid() [16]byte { return [16]byte(f.fixed(16)) }
func (f *fields) bigint() int64  { return int64(binary.BigEndian.Uint64(f.fixed(8))) }
func (f *fields) integer() int   { return int(int32(binary.BigEndian.Uint32(f.fixed(4)))) }
func (f *fields) boolean() bool  { return f.fixed(1)[0] != 0 }
func (f *fields) time() time.Time {
	return time.UnixMicro(f.bigint() + microsecondsTo2000).UTC()
}

// bytes is a copy of the next column, nil for null.
func (f *fields) bytes() []byte { return bytes.Clone(f.take()) }

func (f *fields) text() string { return string(f.present()) }

// word is a text of which there are few.
func (f *fields) word() string {
	text := f.present()
	if known, ok := words[string(text)]; ok {
		return known
	}
	return string(text)
}

func (f *fields) present() []byte {
	value := f.take()
	if value == nil {
		f.fail("a null where there should be a text")
	}
	return value
}

// orNull reads a column by read, or is nil where it is null.
func orNull[T any](f *fields, read func(*fields) T) *T {
	if len(f.left) > 0 && f.left[0] == nil {
		f.take()
		return nil
	}
	value := read(f)
	return &value
}

// words are texts that need no memory of their own.
var words = func() map[string]string {
	known := map[string]string{string(flows.Managed): string(flows.Managed), string(flows.Mirrored): string(flows.Mirrored)}
	know(known, flows.Statuses)
	know(known, flows.StepStatuses)
	know(known, flows.EventKinds)
	know(known, flows.EventOutcomes)
	return known
}()

func know[T ~string](known map[string]string, list []T) {
	for _, word := range list {
		known[string(word)] = string(word)
	}
}
