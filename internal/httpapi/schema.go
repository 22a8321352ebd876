package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	contract "taskflow/api"
	"taskflow/internal/flows"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// operation is one call of the contract, as the checks of a request need it.
type operation struct {
	access access
	query  []*openapi3.Parameter
	body   *openapi3.Schema // nil where the call has no body
	// depth is how deep the body may be nested, and free are its members that may have any value.
	depth int
	free  map[string]bool
	// keep leaves the body to the handler as it came, and its value.
	keep bool
}

// operations are the calls of the contract by "METHOD /pattern".
type operations map[string]*operation

// tagCallbacks marks the calls that take a body of any type: they are served by hand, and nothing checks their requests.
const tagCallbacks = "callbacks"

// spec is api/openapi.yaml as the servers of a process need it. Nobody changes it.
type spec struct {
	operations operations
	// asJSON is the document, written when it is first asked for: few ask, and to write it takes a good part of a start.
	asJSON func() ([]byte, error)
}

// loadSpec is readSpec done once in a process, however many servers it builds.
var loadSpec = sync.OnceValues(readSpec)

// readSpec reads api/openapi.yaml, which is part of the program; that it is valid is held by tests.
func readSpec() (*spec, error) {
	doc, err := openapi3.NewLoader().LoadFromData(contract.Spec)
	if err != nil {
		return nil, fmt.Errorf("reading the contract: %w", err)
	}
	all, table := operations{}, accessOf()
	for path, item := range doc.Paths.Map() {
		for method, call := range item.Operations() {
			need, entered := table[call.OperationID]
			if !entered {
				return nil, fmt.Errorf("nothing says who may call %s", call.OperationID)
			}
			op := &operation{access: need, depth: maxDepth}
			for _, p := range slices.Concat(item.Parameters, call.Parameters) {
				if p.Value.In == openapi3.ParameterInQuery {
					op.query = append(op.query, p.Value)
				}
			}
			if call.RequestBody != nil && !slices.Contains(call.Tags, tagCallbacks) {
				op.body = call.RequestBody.Value.Content.Get("application/json").Schema.Value
				op.free = freeMembers(op.body)
			}
			all[method+" "+path] = op
		}
	}
	// A command of a batch may be nested as deep as one sent alone, and is checked as one.
	all["POST /batch"].depth, all["POST /batch"].keep = maxDepth+3, true
	return &spec{operations: all, asJSON: sync.OnceValues(doc.MarshalJSON)}, nil
}

// freeMembers are the properties of an object's schema that allow every value.
func freeMembers(schema *openapi3.Schema) map[string]bool {
	free := map[string]bool{}
	for name, property := range schema.Properties {
		most := *property.Value
		most.Nullable = false // null is a value like any other, where every other is allowed
		free[name] = property.Value.Nullable && most.IsEmpty()
	}
	return free
}

// check refuses a request that does not fit the contract, before its parameters are bound. It runs behind the router.
func (a *api) check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := requestOf(r.Context()).operation
		if err := op.checkQuery(r); err != nil {
			a.writeProblem(w, r, err)
			return
		}
		if op.body != nil {
			if err := a.checkBody(op, w, r); err != nil {
				a.writeProblem(w, r, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// checkQuery refuses unknown, repeated, badly encoded and bad parameters: all of them 400.
func (op *operation) checkQuery(r *http.Request) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badQuery("string", "is badly encoded")
	}
	for name, values := range query {
		i := slices.IndexFunc(op.query, func(p *openapi3.Parameter) bool { return p.Name == name })
		if i < 0 {
			return badQuery(name, "is unknown")
		}
		list := op.query[i].Schema.Value.Type.Is(openapi3.TypeArray)
		if len(values) > 1 && !list {
			return badQuery(name, "is given more than once")
		}
		for _, value := range values {
			if !flows.ValidText(value) {
				return badQuery(name, "must be valid UTF-8 without NUL")
			}
			if err := checkValue(op.query[i].Schema.Value, value); err != nil {
				return badQuery(name, err.Error())
			}
		}
		if err := op.checkParameter(r, query, op.query[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkValue checks the formats that the schema library leaves to its user, and what it takes for a boolean.
func checkValue(schema *openapi3.Schema, value string) error {
	if schema.Type.Is(openapi3.TypeBoolean) && value != "true" && value != "false" {
		return errors.New("must be true or false")
	}
	if check := formats[schema.Format]; check != nil {
		return check(value)
	}
	return nil
}

func (op *operation) checkParameter(r *http.Request, query url.Values, p *openapi3.Parameter) error {
	input := &openapi3filter.RequestValidationInput{Request: r, QueryParams: query}
	err := openapi3filter.ValidateParameter(r.Context(), input, p)
	if err == nil {
		return nil
	}
	detail := "has a value that is not allowed"
	var schema *openapi3.SchemaError
	if errors.As(err, &schema) {
		detail = "is refused: " + schema.Reason
	}
	return badQuery(p.Name, detail)
}

// checkBody reads the body, guards it and checks it against its schema. What the handler then reads is the body without
// white space between its values; an empty body reads as {}.
func (a *api) checkBody(op *operation, w http.ResponseWriter, r *http.Request) error {
	began := time.Now()
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	if time.Since(began) >= recheck {
		if err := a.stillAllowed(r.Context(), op.access); err != nil {
			return err
		}
	}
	info := requestOf(r.Context())
	info.body = body
	if len(body) > 0 {
		if err := checkMediaType(r); err != nil {
			return err
		}
	}
	text, value, err := op.checkText(body, mostValues(a.options.MaxBody))
	if err != nil {
		return err
	}
	if op.keep {
		info.value = value
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return nil
}

// checkText guards a body and checks it against its schema; it returns it without white space between its values, but for a
// batch, and the value it has.
func (op *operation) checkText(body []byte, most int) ([]byte, any, error) {
	if len(body) == 0 {
		body = []byte("{}")
	}
	value, err := guardJSON(body, op.depth, most, op.free)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSchema(op.body, value); err != nil {
		return nil, nil, err
	}
	if !op.keep { // a batch's commands are told apart by the bytes that were sent
		body, err = compact(body)
	}
	return body, value, err
}

// compact takes the white space between its values off a guarded JSON text.
func compact(body []byte) ([]byte, error) {
	if !spaced(body) {
		return body, nil
	}
	text := jsontext.Value(bytes.Clone(body))
	if err := text.Compact(); err != nil {
		return nil, fmt.Errorf("compacting a guarded body: %w", err)
	}
	return text, nil
}

// spaced reports whether there is white space between the values of a JSON text.
func spaced(text []byte) bool {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\r', '\n':
			return true
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
	}
	return false
}

func checkMediaType(r *http.Request) error {
	sent := r.Header["Content-Type"]
	if len(sent) == 1 && sent[0] == jsonType[0] {
		return nil
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") || len(sent) > 1 {
		return newProblem(slugUnsupportedMediaType, "A body must be sent as Content-Type: application/json.")
	}
	return nil
}

// strict is how a body is checked against its schema.
var strict = []openapi3.SchemaValidationOption{
	openapi3.MultiErrors(), openapi3.VisitAsRequest(),
	openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{
		"uuid":         openapi3.NewCallbackValidator(checkUUID),
		"iso-duration": openapi3.NewCallbackValidator(checkPeriod),
		"date-time":    openapi3.NewCallbackValidator(checkTime),
	}),
}

// checkSchema tells a body that is not of the contract's form (400) from one with a value that is not allowed (422).
func checkSchema(schema *openapi3.Schema, value any) error {
	err := schema.VisitJSON(value, strict...)
	if err == nil {
		return nil
	}
	p := newProblem(slugInvalidValue, "The body has a value that is not allowed.")
	listed := map[string]bool{} // objects whose unknown fields are among the errors already
	for _, e := range schemaErrors(err) {
		if isMalformed(e) {
			p.slug, p.detail = slugInvalidRequest, "The body is not of the form this call takes."
		}
		at := pointer(e.JSONPointer())
		if e.SchemaField != "properties" {
			p.errors = append(p.errors, fieldError{at, e.Reason})
		} else if !listed[at] {
			listed[at] = true
			p.errors = append(p.errors, unknownFields(at, e)...)
		}
	}
	p.errors = p.errors[:min(len(p.errors), maxFieldErrors)]
	return p
}

// maxFieldErrors keeps the answer to a body with many faults small.
const maxFieldErrors = 100

// unknownFields names the fields of an object that its schema does not have: the validator's errors do not point to them.
func unknownFields(at string, e *openapi3.SchemaError) []fieldError {
	object, _ := e.Value.(map[string]any)
	var out []fieldError
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if _, known := e.Schema.Properties[name]; !known {
			out = append(out, fieldError{at + pointer([]string{name}), "is unknown"})
		}
	}
	return out
}

// isMalformed reports whether an error speaks of the body's form, not of a value in it.
func isMalformed(e *openapi3.SchemaError) bool {
	_, text := e.Value.(string)
	return malformed[e.SchemaField] || e.SchemaField == "enum" && !text // every enum is of strings
}

// malformed are the schema's fields that speak of a body's form, not of the values in it.
var malformed = map[string]bool{"type": true, "nullable": true, "required": true, "properties": true, "minProperties": true}

// schemaErrors flattens what the validator found.
func schemaErrors(err error) []*openapi3.SchemaError {
	var many openapi3.MultiError
	if errors.As(err, &many) {
		var all []*openapi3.SchemaError
		for _, e := range many {
			all = append(all, schemaErrors(e)...)
		}
		return all
	}
	var one *openapi3.SchemaError
	if errors.As(err, &one) {
		return []*openapi3.SchemaError{one}
	}
	return []*openapi3.SchemaError{{SchemaField: "type", Reason: "cannot be read"}}
}

func pointer(path []string) string {
	var out strings.Builder
	for _, token := range path {
		out.WriteByte('/')
		out.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return out.String()
}

var formats = map[string]func(string) error{"uuid": checkUUID, "date-time": checkTime, "iso-duration": checkPeriod}

// checkUUID accepts the one canonical form: uuid.Parse alone takes others too.
func checkUUID(s string) error {
	if _, err := parseID(s); err != nil {
		return errors.New("must be a UUID, like 0197b3a0-5c1e-7d3a-9c55-3f2e8a1b7c4d")
	}
	return nil
}

func parseID(s string) (uuid.UUID, error) {
	if len(s) != 36 {
		return uuid.UUID{}, errors.New("not a UUID")
	}
	return uuid.Parse(s)
}

// checkTime accepts RFC 3339, in years both databases hold. Go takes an hour of one digit and a comma before the fraction too.
func checkTime(s string) error {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || s[len("2026-04-23T15")] != ':' || strings.Contains(s, ",") || at.UTC().Year() < 1 || at.UTC().Year() > 9999 {
		return errors.New("must be a time like 2026-04-23T15:00:00Z")
	}
	return nil
}

// timeOf is a time that checkTime has accepted, nil where none was given. It is read from the text that the body has: a
// time.Time would be from how the text is written, and fail on an escape.
func timeOf(s *string) *time.Time {
	if s == nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, *s)
	if err != nil {
		panic("httpapi: a time that passed its schema: " + err.Error()) // cannot be
	}
	return &at
}
