package flows

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Owners is what a caller covers: the flows of one owner_session_key, or of every one that begins with a prefix, written
// as the prefix followed by "*" ("agent:kate:*"). The zero value covers nothing.
type Owners string

// Everyone covers every flow: what the server itself does, and callers without authentication.
const Everyone Owners = "*"

// MaxOwners is how many characters a pattern may have.
const MaxOwners = 256

// Prefix is what the owners of covered flows begin with; ok is false for a pattern that names one owner.
func (o Owners) Prefix() (prefix string, ok bool) { return strings.CutSuffix(string(o), "*") }

// Covers reports whether the flows of an owner are covered.
func (o Owners) Covers(owner string) bool {
	if prefix, ok := o.Prefix(); ok {
		return strings.HasPrefix(owner, prefix)
	}
	return o != "" && string(o) == owner
}

// CoversAll reports whether everything that other covers is covered. Other must cover something: the zero value is
// covered by nothing.
func (o Owners) CoversAll(other Owners) bool {
	if other == "" {
		return false
	}
	wider, isPrefix := o.Prefix()
	if !isPrefix {
		return o == other
	}
	narrower, _ := other.Prefix() // all of other, where it names one owner
	return strings.HasPrefix(narrower, wider)
}

// Validate is nil where the pattern may be given to a caller: 1 to [MaxOwners] characters of UTF-8 without NUL, and "*"
// at the end only.
func (o Owners) Validate() error {
	switch prefix, _ := o.Prefix(); {
	case o == "":
		return fmt.Errorf("an owner must not be empty")
	case utf8.RuneCountInString(string(o)) > MaxOwners:
		return fmt.Errorf("an owner must have at most %d characters", MaxOwners)
	case !utf8.ValidString(string(o)) || strings.ContainsRune(string(o), 0):
		return fmt.Errorf("an owner must be UTF-8 without NUL")
	case strings.Contains(prefix, "*"):
		return fmt.Errorf(`an owner may have "*" at its end only`)
	}
	return nil
}

// Range are the bounds of the owners that begin with the pattern's prefix, in the order of their bytes: from low on and
// below high. An empty high is no bound.
func (o Owners) Range() (low, high string) {
	low, _ = o.Prefix()
	runes := []rune(low)
	for len(runes) > 0 {
		last := &runes[len(runes)-1]
		if *last < utf8.MaxRune {
			*last++
			if *last == firstSurrogate {
				*last = afterSurrogates
			}
			return low, string(runes)
		}
		runes = runes[:len(runes)-1]
	}
	return low, ""
}

// Surrogates are no characters of UTF-8.
const firstSurrogate, afterSurrogates = 0xD800, 0xE000
