package flows

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// Strings are written as the standard library writes them, whatever is in them.
func TestAppendText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`), rapid.StringMatching("[\\x00-\\x1f\"\\\\\\x7f\\x{2028}<&é]*")).Draw(t, "text")
		if got, want := appendText([]byte("x"), s), "x"+string(encode(s)); string(got) != want {
			t.Errorf("%q is written %s, want %s", s, got, want)
		}
	})
}

// JSON loses its white space and nothing else.
func TestAppendCompact(t *testing.T) {
	value := anyJSON(3)
	rapid.Check(t, func(t *rapid.T) {
		var spaced, want bytes.Buffer
		indent := rapid.StringMatching("[ \t\r\n]{0,3}").Draw(t, "indent")
		if err := json.Indent(&spaced, encode(value.Draw(t, "value")), "\n", indent); err != nil {
			t.Fatal(err)
		}
		if err := json.Compact(&want, spaced.Bytes()); err != nil {
			t.Fatal(err)
		}
		if got := appendCompact(nil, spaced.Bytes()); string(got) != want.String() {
			t.Errorf("%s is written %s, want %s", spaced.Bytes(), got, want.Bytes())
		}
	})
}

func anyJSON(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(), rapid.String().AsAny(),
		rapid.StringMatching(`[ "\\{}\[\],:]*`).AsAny(),
	}
	if depth > 0 {
		inner := anyJSON(depth - 1)
		leaves = append(leaves, rapid.SliceOfN(inner, 0, 4).AsAny(), rapid.MapOfN(rapid.String(), inner, 0, 4).AsAny())
	}
	return rapid.OneOf(leaves...)
}

// An object has its members in order, and only those that are there.
func TestObject(t *testing.T) {
	null := json.RawMessage("null")
	got := newObject().text("a", `"`).textIf("b", "").textIf("c", "d").textOrNull("e", nil).number("f", -7).json("g", null).
		jsonIf("h", nil).jsonIf("i", null).other("j", map[string]string{}, 0).other("k", map[string]*string{"y": nil, "x": nil}, 2).end()
	const want = `{"a":"\"","c":"d","e":null,"f":-7,"g":null,"i":null,"k":{"x":null,"y":null}}`
	if string(got) != want || string(newObject().end()) != "{}" {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
