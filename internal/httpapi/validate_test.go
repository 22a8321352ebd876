package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	contract "taskflow/api"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/uuid"
)

// problems are the slugs of the contract that this server has, each with its one status.
var problems = map[string]int{
	"not-found": 404, "revision-conflict": 409, "already-terminal": 409, "cancel-pending": 409, "illegal-transition": 409,
	"already-exists": 409, "not-terminal": 409, "not-waiting": 409, "wait-ended": 410, "unauthenticated": 401, "invalid-request": 400, "invalid-value": 422,
	"idempotency-key-reused": 422, "precondition-required": 428, "payload-too-large": 413,
	"unsupported-media-type": 415, "method-not-allowed": 405, "forbidden": 403, "too-many-requests": 429, "overloaded": 503, "unavailable": 503,
	"internal": 500,
}

// document is the contract, read once.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(contract.Spec)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

var timePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)

// formats are what answers promise of a uuid and of a time, which is more than requests must keep.
var formats = []openapi3.SchemaValidationOption{
	openapi3.WithStringFormatValidator("uuid", openapi3.NewCallbackValidator(func(s string) error {
		if id, err := uuid.Parse(s); err != nil || id.String() != s {
			return fmt.Errorf("%q is not a UUID in lower case", s)
		}
		return nil
	})),
	openapi3.WithStringFormatValidator("date-time", openapi3.NewCallbackValidator(func(s string) error {
		if !timePattern.MatchString(s) {
			return fmt.Errorf("%q is not UTC with microseconds", s)
		}
		return nil
	})),
}

// checkContract fails the test where the answer breaks a promise that holds for every answer, or is not what the
// contract says of its operation.
func (a answer) checkContract() {
	a.t.Helper()
	fail := func(format string, args ...any) {
		a.t.Helper()
		a.t.Errorf("%s %s answered %d: %s: %s", a.request.Method, a.request.URL.RequestURI(), a.status,
			fmt.Sprintf(format, args...), shorten(a.body))
	}
	if a.header.Get("X-Request-Id") == "" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		fail("X-Request-Id or X-Content-Type-Options is missing")
	}
	isProblem := a.header.Get("Content-Type") == "application/problem+json"
	ended := a.status == http.StatusGone && strings.HasPrefix(a.header.Get("Content-Type"), "text/html") // a callback's page
	if isProblem != (a.status >= 400) && !ended {
		fail("Content-Type is %q", a.header.Get("Content-Type"))
	}
	if (a.header.Get("Retry-After") != "") != (a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests) {
		fail("Retry-After is %q", a.header.Get("Retry-After"))
	}
	if (a.header.Get("WWW-Authenticate") != "") != (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden) {
		fail("WWW-Authenticate is %q", a.header.Get("WWW-Authenticate"))
	}
	if (a.header.Get("Allow") != "") != (a.status == http.StatusMethodNotAllowed) {
		fail("Allow is %q", a.header.Get("Allow"))
	}
	if a.request.Method == http.MethodHead {
		return
	}
	if isProblem {
		if err := a.checkProblem(); err != nil {
			fail("%v", err)
		}
	}
	if route := findRoute(a.request); route != nil {
		if err := errors.Join(a.validate(route), a.isExpected(route)); err != nil {
			fail("%v", err)
		}
	}
}

// checkProblem checks what every problem promises, also on routes that the contract does not have.
func (a answer) checkProblem() error {
	var p struct {
		Type, Title, Detail, Instance string
		Status                        int
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		return err
	}
	slug := strings.TrimPrefix(p.Type, "/problems/")
	switch {
	case problems[slug] != a.status || p.Status != a.status:
		return fmt.Errorf("the type %q and status %d are not of this status", p.Type, p.Status)
	case p.Title == "" || p.Detail == "":
		return errors.New("no title or no detail")
	case p.Instance != a.header.Get("X-Request-Id"):
		return fmt.Errorf("the instance %q is not the request's id %q", p.Instance, a.header.Get("X-Request-Id"))
	}
	doc, err := document()
	if err != nil {
		return err
	}
	value, err := plainNumbers(a.body)
	if err != nil {
		return err
	}
	return doc.Components.Schemas["Problem"].Value.VisitJSON(value, formats...)
}

// isExpected checks that the contract names this problem among those of the operation, or of all of them.
func (a answer) isExpected(route *routers.Route) error {
	if a.header.Get("Content-Type") != "application/problem+json" {
		return nil
	}
	slug := strings.TrimPrefix(strings.Trim(a.at("/type"), `"`), "/problems/")
	for _, extensions := range []map[string]any{route.Spec.Extensions, route.Operation.Extensions} {
		if listed, _ := extensions["x-problems"].([]any); slices.Contains(listed, any(slug)) {
			return nil
		}
	}
	return fmt.Errorf("the contract does not name %s among the operation's x-problems", slug)
}

// validate checks the answer against its operation.
func (a answer) validate(route *routers.Route) error {
	body := a.body
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	isPage := media == "text/html" // the validator has no reader for one
	if answers := route.Operation.Responses; isPage && (answers.Status(a.status) == nil || answers.Status(a.status).Value.Content[media] == nil) {
		return errors.New("a page where the contract has none")
	}
	if strings.Contains(a.header.Get("Content-Type"), "json") {
		value, err := plainNumbers(body)
		if err != nil {
			return err
		}
		plain, err := json.Marshal(value)
		if err != nil {
			return err
		}
		body = string(plain)
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: a.request, Route: route},
		Status:                 a.status,
		Header:                 a.header,
		Body:                   io.NopCloser(bytes.NewReader([]byte(body))),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: isPage, SchemaValidationOptions: formats},
	})
}

// plainNumbers decodes JSON with a 0 in the place of each number that the validator cannot hold.
func plainNumbers(text string) (any, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return plainValue(value), nil
}

func plainValue(value any) any {
	switch v := value.(type) {
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return json.Number("0")
		}
	case []any:
		for i := range v {
			v[i] = plainValue(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = plainValue(v[key])
		}
	}
	return value
}

// findRoute finds the operation of a request in the contract; nil where it has none.
func findRoute(r *http.Request) *routers.Route {
	doc, err := document()
	if err != nil {
		panic(err) // the contract's own test says why
	}
	for path, item := range doc.Paths.Map() {
		if operation := item.Operations()[r.Method]; operation != nil && matches(path, r.URL.EscapedPath()) {
			return &routers.Route{Spec: doc, Path: path, PathItem: item, Method: r.Method, Operation: operation}
		}
	}
	return nil
}

func matches(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if parameter := strings.HasPrefix(want[i], "{"); parameter && got[i] == "" || !parameter && got[i] != want[i] {
			return false
		}
	}
	return true
}
