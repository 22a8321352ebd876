package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits on what JSON libraries and databases disagree on.
const (
	maxDepth    = 64
	maxDigits   = 64
	maxExponent = 308
)

// decoders keeps tokenizers for the next body: what they need to know of nested objects is most of what they allocate.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// guardJSON reads a whole JSON body once and refuses what two readers of it could understand in two ways, or a database
// could not hold: syntax errors, duplicate keys, trailing data, invalid UTF-8, lone surrogates, NUL in a string, depth
// over the limit, monstrous numbers. It returns the value, for the schema check: objects as map[string]any, arrays as
// []any, numbers as the nearest float64. The body itself stays what it is.
//
// Members of the outermost object that are named in free may have any value: it is not made, and stands as true. Decoded, a
// body of many small values takes up to fifty times its size: with more than most of them, those within free ones not
// counted, it is refused.
func guardJSON(body []byte, depth, most int, free map[string]bool) (any, error) {
	g := guard{depth: depth, keep: true, left: most, free: free}
	return g.read(body)
}

// checkJSON is guardJSON for a body whose value nobody needs: none is made.
func checkJSON(body []byte) error {
	g := guard{depth: maxDepth}
	_, err := g.read(body)
	return err
}

// objectCost is for how many values of an array an object counts, by the memory it takes.
const objectCost = 6

// mostValues is how many values a body may have where bodies have this many bytes at most. It leaves room for an array of
// digits as large as a state may be by default, and keeps what is decoded within twenty times the body's limit.
func mostValues(maxBody int64) int { return int(max(4096, maxBody/4)) }

// read is the value of a whole body.
func (g *guard) read(body []byte) (any, error) {
	g.decoder = decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(g.decoder)
	g.decoder.Reset(bytes.NewBuffer(body))
	value, err := g.value()
	if err == nil {
		err = g.end()
	}
	if err == nil {
		return value, nil
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		err = invalidAt(string(syntax.JSONPointer), "%s, at byte %d", plainSyntax(syntax.Err), syntax.ByteOffset)
	}
	var p *problem
	if !errors.As(err, &p) {
		err = invalidAt("", "the body is not JSON: it ends too early")
	}
	return nil, err
}

// plainSyntax says what is wrong without the tokenizer's own name in front.
func plainSyntax(err error) string { return strings.TrimPrefix(err.Error(), "jsontext: ") }

type guard struct {
	decoder *jsontext.Decoder
	depth   int
	// keep makes the value; left is then how many more there may be in it.
	keep bool
	left int
	free map[string]bool
}

// spend counts values that are about to be made.
func (g *guard) spend(values int) error {
	if g.left -= values; g.keep && g.left < 0 {
		return newProblem(slugPayloadTooLarge, "The body has more values in it than this server takes, small as they are.")
	}
	return nil
}

func (g *guard) value() (any, error) {
	token, err := g.decoder.ReadToken()
	if err == nil {
		err = g.spend(1)
	}
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{', '[':
		if g.decoder.StackDepth() > g.depth {
			return nil, g.refuse("nested deeper than %d levels", maxDepth)
		}
		if token.Kind() == '{' {
			return g.object()
		}
		return g.array()
	case '"':
		return g.text(token)
	case '0':
		return g.number(token.String())
	case 't', 'f':
		return token.Bool(), nil
	}
	return nil, nil // null
}

func (g *guard) object() (any, error) {
	if err := g.spend(objectCost - 1); err != nil {
		return nil, err
	}
	var out map[string]any
	if g.keep {
		out = map[string]any{}
	}
	for g.decoder.PeekKind() != '}' {
		token, err := g.decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		key, err := g.text(token)
		if err != nil {
			return nil, err
		}
		value, err := g.member(key)
		if err != nil {
			return nil, err
		}
		if g.keep {
			out[key] = value
		}
	}
	_, err := g.decoder.ReadToken()
	return out, err
}

// member is the value of an object's member.
func (g *guard) member(key string) (any, error) {
	if !g.keep || g.decoder.StackDepth() > 1 || !g.free[key] {
		return g.value()
	}
	g.keep = false
	_, err := g.value()
	g.keep = true
	return true, err
}

func (g *guard) array() (any, error) {
	out := []any{}
	for g.decoder.PeekKind() != ']' {
		value, err := g.value()
		if err != nil {
			return nil, err
		}
		if g.keep {
			out = append(out, value)
		}
	}
	_, err := g.decoder.ReadToken()
	return out, err
}

func (g *guard) text(token jsontext.Token) (string, error) {
	s := token.String()
	if strings.IndexByte(s, 0) >= 0 {
		return "", g.refuse("NUL in a string")
	}
	return s, nil
}

// number bounds the digits and the exponent, so that every reader can hold the number.
func (g *guard) number(text string) (any, error) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	digits := len(mantissa) - strings.Count(mantissa, "-") - strings.Count(mantissa, ".")
	if digits > maxDigits {
		return nil, g.refuse("a number of more than %d digits", maxDigits)
	}
	if exponent != "" {
		if e, err := strconv.Atoi(exponent); err != nil || e > maxExponent || e < -maxExponent {
			return nil, g.refuse("a number with an exponent over %d", maxExponent)
		}
	}
	if !g.keep {
		return nil, nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0.0, nil // 10e308 is no float64, and yet a number that is kept digit for digit
	}
	return value, nil
}

// end checks that nothing follows the value.
func (g *guard) end() error {
	if g.decoder.PeekKind() == 0 {
		if _, err := g.decoder.ReadToken(); errors.As(err, new(*jsontext.SyntacticError)) {
			return err
		}
		return nil
	}
	return invalidAt("", "data after the end of the JSON value, at byte %d", g.decoder.InputOffset())
}

func (g *guard) refuse(format string, args ...any) error {
	return invalidAt(string(g.decoder.StackPointer()), format, args...)
}

// invalidAt is an invalid-request problem about one place of the body.
func invalidAt(pointer, format string, args ...any) *problem {
	detail := fmt.Sprintf(format, args...)
	p := newProblem(slugInvalidRequest, "The body is refused: "+detail+".")
	p.errors = []fieldError{{pointer, detail}}
	return p
}
