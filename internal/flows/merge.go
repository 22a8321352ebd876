package flows

import (
	"bytes"
	"encoding/json"
	"slices"
)

// Merge lays a patch onto a state. An object onto an object overwrites top-level keys, keeps the rest and appends what
// is new; any other pair: the patch replaces the state. null is stored as null; it deletes nothing. Both must be valid
// JSON without duplicate keys; values are moved as text, digit for digit. A nil patch is none.
func Merge(state, patch json.RawMessage) json.RawMessage {
	if patch == nil {
		return state
	}
	patch = bytes.TrimSpace(patch)
	if !isObject(state) || !isObject(patch) {
		return patch
	}
	news := members(patch)
	if len(news) == 0 {
		return state
	}
	out := make(json.RawMessage, 0, len(state)+len(patch))
	out = append(out, '{')
	add := func(m member) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, m.raw...)
		out = append(out, ':')
		out = append(out, m.value...)
	}
	over := indexOf(news)
	for _, m := range members(state) {
		if i := over(m.key); i >= 0 {
			m.value, news[i].used = news[i].value, true
		}
		add(m)
	}
	for _, m := range news {
		if !m.used {
			add(m)
		}
	}
	return append(out, '}')
}

// indexOf finds a member by its key, -1 where there is none. A map pays for itself where there are many.
func indexOf(list []member) func(key string) int {
	if len(list) <= 8 {
		return func(key string) int {
			return slices.IndexFunc(list, func(m member) bool { return m.key == key })
		}
	}
	index := make(map[string]int, len(list))
	for i, m := range list {
		index[m.key] = i
	}
	return func(key string) int {
		if i, ok := index[key]; ok {
			return i
		}
		return -1
	}
}

// mergeOwn lays what the service itself adds (failure, resume_event) onto a state; a state that is no object is kept
// under value.
func mergeOwn(state, patch json.RawMessage) json.RawMessage {
	if !isObject(state) {
		kept := append([]byte(`{"value":`), state...)
		state = append(kept, '}')
	}
	return Merge(state, patch)
}

func isObject(v json.RawMessage) bool {
	v = bytes.TrimLeft(v, " \t\r\n")
	return len(v) > 0 && v[0] == '{'
}

// member is one top-level member of an object: its name as written, the name decoded, and its value's text.
type member struct {
	raw, value json.RawMessage
	key        string
	used       bool
}

// members splits a valid JSON object at its top level.
func members(object json.RawMessage) []member {
	out := make([]member, 0, 8)
	i := skipSpace(object, 0) + 1
	for {
		i = skipSpace(object, i)
		if object[i] == '}' {
			return out
		}
		if object[i] == ',' {
			i = skipSpace(object, i+1)
		}
		end := skipString(object, i)
		m := member{raw: object[i:end]}
		m.key = decodeName(m.raw)
		i = skipSpace(object, skipSpace(object, end)+1) // past the colon
		end = skipValue(object, i)
		m.value = object[i:end]
		out = append(out, m)
		i = end
	}
}

func decodeName(raw json.RawMessage) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var key string
	_ = json.Unmarshal(raw, &key) // valid by the caller's promise
	return key
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' {
		i++
	}
	return i
}

// skipString returns the index past the string that begins at i.
func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the index past the value that begins at i.
func skipValue(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of the object around a number or literal
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}
