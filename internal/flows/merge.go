package flows

import (
	"bytes"
	"encoding/json"
	"slices"
)

// few is how many members an object may have for them to be looked at one by one, in memory of the stack. Most have no more.
const few = 8

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
	var patched, kept [few]member
	news := members(patched[:0], patch)
	if len(news) == 0 {
		return state
	}
	index := indexOf(news)
	out := append(make(json.RawMessage, 0, len(state)+len(patch)), '{')
	for _, m := range members(kept[:0], state) {
		if i := find(news, index, m.key); i >= 0 {
			m.value, news[i].used = news[i].value, true
		}
		out = appendMember(out, m)
	}
	for _, m := range news {
		if !m.used {
			out = appendMember(out, m)
		}
	}
	return append(out, '}')
}

// indexOf is where each key is in a list, nil where there are few.
func indexOf(list []member) map[string]int {
	if len(list) <= few {
		return nil
	}
	index := make(map[string]int, len(list))
	for i, m := range list {
		index[string(m.key)] = i
	}
	return index
}

// find is where a key is in a list of which index is the index, -1 where it is not.
func find(list []member, index map[string]int, key []byte) int {
	if index == nil {
		return slices.IndexFunc(list, func(m member) bool { return bytes.Equal(m.key, key) })
	}
	if i, ok := index[string(key)]; ok {
		return i
	}
	return -1
}

func appendMember(out json.RawMessage, m member) json.RawMessage {
	if len(out) > 1 {
		out = append(out, ',')
	}
	out = append(out, m.raw...)
	out = append(out, ':')
	return append(out, m.value...)
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
	key        []byte
	used       bool
}

// members appends the top-level members of a valid JSON object.
func members(out []member, object json.RawMessage) []member {
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

func decodeName(raw json.RawMessage) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var key string
	_ = json.Unmarshal(raw, &key) // valid by the caller's promise
	return []byte(key)
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
