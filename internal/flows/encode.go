package flows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// object is a JSON object in the making: every change writes one or two, and the standard library's way takes a good part of
// what a change costs. What it is given are strings and JSON that the guard has let through.
type object struct{ out []byte }

func newObject() *object { return &object{append(make([]byte, 0, 192), '{')} }

// end is the whole object.
func (o *object) end() json.RawMessage { return append(o.out, '}') }

func (o *object) name(name string) {
	if len(o.out) > 1 {
		o.out = append(o.out, ',')
	}
	o.out = append(append(append(o.out, '"'), name...), '"', ':')
}

func (o *object) text(name, value string) *object {
	o.name(name)
	o.out = appendText(o.out, value)
	return o
}

// textIf leaves an empty text out.
func (o *object) textIf(name, value string) *object {
	if value == "" {
		return o
	}
	return o.text(name, value)
}

// textOrNull writes null for none.
func (o *object) textOrNull(name string, value *string) *object {
	if value == nil {
		o.name(name)
		o.out = append(o.out, "null"...)
		return o
	}
	return o.text(name, *value)
}

func (o *object) number(name string, value int64) *object {
	o.name(name)
	o.out = strconv.AppendInt(o.out, value, 10)
	return o
}

func (o *object) time(name string, t time.Time) *object {
	o.name(name)
	o.out = append(AppendTime(append(o.out, '"'), t), '"')
	return o
}

// json writes JSON without its white space.
func (o *object) json(name string, value json.RawMessage) *object {
	o.name(name)
	o.out = appendCompact(o.out, value)
	return o
}

// jsonIf leaves out what is not there.
func (o *object) jsonIf(name string, value json.RawMessage) *object {
	if len(value) == 0 {
		return o
	}
	return o.json(name, value)
}

// other writes what is rare by the standard library, and leaves out an empty map.
func (o *object) other(name string, value any, length int) *object {
	if length == 0 {
		return o
	}
	return o.json(name, encode(value))
}

// appendText appends a string as encoding/json writes it; what needs no more than quotes, at once.
func appendText(out []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return append(out, encode(s)...)
		}
	}
	return append(append(append(out, '"'), s...), '"')
}

// appendCompact appends valid JSON without the white space between its tokens.
func appendCompact(out []byte, value json.RawMessage) []byte {
	for i := 0; i < len(value); {
		switch c := value[i]; c {
		case ' ', '\t', '\n', '\r':
			i++
		case '"':
			end := skipString(value, i)
			out = append(out, value[i:end]...)
			i = end
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// encode marshals by the standard library, the caller's JSON unescaped. It cannot fail on what is given to it here; a fault
// in that promise is a panic, not a half-written trail.
func encode(v any) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("flows: encoding %T: %v", v, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
