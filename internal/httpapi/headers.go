package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// ifMatch is what an If-Match header asks for.
type ifMatch struct {
	given    bool
	revision *int64 // nil for *
}

// canonical is the header in one form, for the fingerprint of a request: a proxy that weakens a tag on a repeat does
// not make another request of it.
func (m ifMatch) canonical() string {
	switch {
	case !m.given:
		return ""
	case m.revision == nil:
		return "*"
	}
	return `"` + strconv.FormatInt(*m.revision, 10) + `"`
}

// parseIfMatch reads one revision tag, weak or strong, or *. A list or anything else is refused.
func parseIfMatch(value *string) (ifMatch, error) {
	if value == nil {
		return ifMatch{}, nil
	}
	if *value == "*" {
		return ifMatch{given: true}, nil
	}
	revision, ok := parseTag(*value)
	if !ok {
		return ifMatch{}, badHeader("If-Match", `must be one revision as a tag, like "3", or *`)
	}
	return ifMatch{given: true, revision: &revision}, nil
}

// parseTag reads a revision tag as this server writes it; W/ in front is ignored.
func parseTag(tag string) (int64, bool) {
	digits, ok := strings.CutPrefix(strings.TrimPrefix(tag, "W/"), `"`)
	digits, closed := strings.CutSuffix(digits, `"`)
	if !ok || !closed {
		return 0, false
	}
	revision, err := strconv.ParseInt(digits, 10, 64)
	return revision, err == nil && strconv.FormatInt(revision, 10) == digits && revision >= 0
}

// matchesNone reports whether an If-None-Match header names the flow's revision. Tags that are no revision match
// nothing; what is no list of tags is refused.
func matchesNone(value *string, f *flows.Flow) (bool, error) {
	if value == nil {
		return false, nil
	}
	rest := strings.TrimSpace(*value)
	if rest == "*" {
		return true, nil
	}
	match := false
	for {
		tag, after, ok := cutTag(rest)
		if !ok {
			return false, badHeader("If-None-Match", `must be a list of tags, like "3", or *`)
		}
		if revision, is := parseTag(tag); is && revision == f.Revision {
			match = true
		}
		if after == "" {
			return match, nil
		}
		rest = after
	}
}

// cutTag takes the first tag off a list of tags.
func cutTag(list string) (tag, rest string, ok bool) {
	prefix := len(list) - len(strings.TrimPrefix(list, "W/"))
	if len(list) <= prefix || list[prefix] != '"' {
		return "", "", false
	}
	end := strings.IndexByte(list[prefix+1:], '"')
	if end < 0 {
		return "", "", false
	}
	tag, rest = list[:prefix+end+2], strings.TrimSpace(list[prefix+end+2:])
	if rest == "" {
		return tag, "", true
	}
	rest, ok = strings.CutPrefix(rest, ",")
	return tag, strings.TrimSpace(rest), ok
}

// parseIdempotencyKey reads 1 to 255 visible ASCII characters, quoted (RFC 8941) or bare.
func parseIdempotencyKey(value *string) (string, error) {
	if value == nil {
		return "", nil
	}
	key := *value
	bad := badHeader("Idempotency-Key", "must be 1 to 255 visible ASCII characters, quoted or bare")
	if strings.HasPrefix(key, `"`) {
		if len(key) < 2 || !strings.HasSuffix(key, `"`) {
			return "", bad
		}
		var ok bool
		if key, ok = unescape(key[1 : len(key)-1]); !ok {
			return "", bad
		}
	}
	if key == "" || len(key) > 255 || strings.ContainsFunc(key, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
		return "", bad
	}
	return key, nil
}

// unescape undoes the escapes of a quoted string: \" and \\, and no other.
func unescape(s string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			return "", false
		}
		if s[i] == '\\' {
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		}
		out.WriteByte(s[i])
	}
	return out.String(), true
}

// answerKey is the stored form of a caller's key: keys belong to the caller that sent them.
func answerKey(caller, key string) store.AnswerKey {
	return sha256.Sum256([]byte(caller + "\x00" + key))
}

// fingerprint tells a repeat from another request: the same method, path, If-Match and body.
func fingerprint(method, path string, match ifMatch, body []byte) [32]byte {
	sum := sha256.Sum256(body)
	return sha256.Sum256([]byte(strings.Join([]string{method, path, match.canonical(), hex.EncodeToString(sum[:])}, "\n")))
}

func badHeader(name, detail string) *problem {
	p := newProblem(slugInvalidRequest, "The "+name+" header "+detail+".")
	p.errors = []fieldError{{http.CanonicalHeaderKey(name), detail}}
	return p
}

func badQuery(name, detail string) *problem {
	p := newProblem(slugInvalidRequest, "The query parameter "+name+" "+detail+".")
	p.errors = []fieldError{{name, detail}}
	return p
}
