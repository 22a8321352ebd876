package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

// generator makes values that a schema of the contract allows. The same seed makes the same values.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) *generator { return &generator{rand.New(rand.NewPCG(seed, 0))} }

// oneIn is true once in n times.
func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// value makes a value that the schema allows: objects as map[string]any, arrays as []any, free JSON as json.RawMessage.
func (g *generator) value(s *openapi3.Schema) any {
	switch {
	case s.Nullable && g.oneIn(6):
		return nil
	case len(s.Enum) > 0:
		return pick(g, s.Enum...)
	case s.Type == nil:
		return json.RawMessage(g.json(3))
	case s.Type.Is("object"):
		return g.object(s)
	case s.Type.Is("array"):
		most := s.MinItems + 3
		if s.MaxItems != nil {
			most = min(most, *s.MaxItems)
		}
		array := make([]any, s.MinItems+uint64(g.IntN(int(most-s.MinItems)+1)))
		for i := range array {
			array[i] = g.value(s.Items.Value)
		}
		return array
	case s.Type.Is("integer"):
		return g.integer(s)
	case s.Type.Is("boolean"):
		return g.oneIn(2)
	}
	return g.text(s)
}

func (g *generator) object(s *openapi3.Schema) any {
	object := map[string]any{}
	names := slices.Sorted(maps.Keys(s.Properties))
	for _, name := range names {
		if slices.Contains(s.Required, name) || g.oneIn(2) {
			object[name] = g.value(s.Properties[name].Value)
		}
	}
	for len(object) < int(s.MinProps) {
		name := pick(g, names...)
		object[name] = g.value(s.Properties[name].Value)
	}
	for range g.IntN(3) {
		switch key := g.letters(1, 20); {
		case s.AdditionalProperties.Schema != nil:
			object[key] = g.value(s.AdditionalProperties.Schema.Value)
		case s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has:
			object[key] = json.RawMessage(g.json(2))
		}
	}
	return fitting(object)
}

// fitting takes from a wait or a condition what its kind does not take, and gives a time to what needs one: the schema
// has one object for all kinds.
func fitting(object map[string]any) any {
	takes := map[any][]string{
		"timer": {"at", "after"}, "external_event": {"topic", "correlation_id"}, "callback": {"verify"}, "manual": {}, "any_of": {"conditions"},
	}
	kind, of := takes[object["kind"]]
	_, isTimeout := object["on_timeout"]
	if of {
		for _, members := range takes {
			for _, member := range members {
				if !slices.Contains(kind, member) {
					delete(object, member)
				}
			}
		}
		for _, member := range kind {
			if object[member] == nil && (member == "topic" || member == "correlation_id") {
				object[member] = "x"
			}
		}
	}
	if slices.Contains(kind, "at") || isTimeout {
		delete(object, "at")
		if object["after"] == nil {
			object["at"] = "2026-04-23T15:00:00Z"
		}
	}
	if object["kind"] == "any_of" && object["conditions"] == nil {
		object["conditions"] = []any{map[string]any{"kind": "manual"}, map[string]any{"kind": "timer", "after": "PT1H"}}
	}
	if object["scheme"] != nil && object["secret"] != nil {
		object["secret"] = "whsec_c2VjcmV0" // base64, which one of the schemes wants
		if object["scheme"] != "hmac-sha256" {
			delete(object, "header")
		}
	}
	if object["on_timeout"] != nil && object["on_timeout"] != "resume" {
		delete(object, "state_patch")
	}
	return object
}

func (g *generator) integer(s *openapi3.Schema) any {
	low, high := int64(0), int64(1)<<40
	if s.Min != nil {
		low = int64(*s.Min)
	}
	if s.Max != nil {
		high = int64(*s.Max)
	}
	return pick(g, low, high, low+g.Int64N(high-low+1))
}

// text makes a string of the schema's format, or of its length, which it likes to be the least or the most.
func (g *generator) text(s *openapi3.Schema) string {
	switch s.Format {
	case "uuid":
		return uuid.UUID{6: 0x70, 8: 0x80, 15: byte(g.IntN(256)), 14: byte(g.IntN(256)), 13: byte(g.IntN(256)), 12: byte(g.IntN(256))}.String()
	case "date-time":
		at := time.Unix(1_700_000_000+g.Int64N(200_000_000), g.Int64N(1_000_000_000))
		return pick(g, at.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339Nano), at.In(time.FixedZone("", 7200)).Format(time.RFC3339))
	case "iso-duration":
		return pick(g, "PT0S", "PT1S", "PT15M", "P1D", "P1DT2H", "PT0.5S", fmt.Sprintf("PT%dM", g.IntN(1000)))
	}
	if s.Pattern != "" {
		return "X-Signature"
	}
	most := uint64(12)
	if s.MaxLength != nil {
		most = *s.MaxLength
	}
	n := pick(g, s.MinLength, most, min(most, s.MinLength+uint64(g.IntN(20))))
	return g.letters(int(n), int(n))
}

// letters makes a string of so many characters, of all lengths in UTF-8, but no control characters.
func (g *generator) letters(least, most int) string {
	const alphabet = `abcXYZ019 -_/.:%"'\<&é€😀` + "\u2028\u007f"
	all := []rune(alphabet)
	var out strings.Builder
	for range least + g.IntN(most-least+1) {
		out.WriteRune(all[g.IntN(len(all))])
	}
	return out.String()
}

// json writes free JSON: numbers that no float64 holds, escapes, white space.
func (g *generator) json(depth int) string {
	kind := g.IntN(7)
	if depth == 0 {
		kind = g.IntN(5)
	}
	space := pick(g, "", "", " ", "\n\t")
	switch kind {
	case 0:
		return pick(g, "null", "true", "false")
	case 1, 2:
		return pick(g, "0", "-0", "1.10", "12345678901234567890", "1e308", "-1E-308", "0.1e+1", "1.0", "100", strings.Repeat("9", 64), fmt.Sprint(g.Int64()), fmt.Sprint(g.NormFloat64()))
	case 3, 4:
		return g.string()
	case 5:
		var items []string
		for range g.IntN(4) {
			items = append(items, g.json(depth-1))
		}
		return "[" + space + strings.Join(items, space+","+space) + "]"
	}
	var members []string
	for i := range g.IntN(4) {
		members = append(members, fmt.Sprintf(`"%d%s":%s%s`, i, pick(g, "", "a", `\n`, "é", `\u00e9`, `\"`), space, g.json(depth-1)))
	}
	return "{" + strings.Join(members, ","+space) + space + "}"
}

// string writes a JSON string with escapes that are needed and some that are not.
func (g *generator) string() string {
	var out strings.Builder
	for range g.IntN(8) {
		out.WriteString(pick(g, "a", "é", "😀", `\n`, `\u0041`, `\/`, `/`, `\\`, `\"`, `\u00e9`, `\ud83d\ude00`, "\u2028", `\u001f`, "<", "\u007f", `\u007f`))
	}
	return `"` + out.String() + `"`
}
