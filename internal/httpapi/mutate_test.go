package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// mutate makes one or two things of a request other than the contract has them. The answer may be anything that the
// contract knows: some mutations do no harm.
func (r *requests) mutate(request generatedRequest) generatedRequest {
	request.headers = slices.Clone(request.headers)
	mutations := []func(*generatedRequest){r.mutateQuery, r.mutateHeaders, r.mutatePath}
	if request.body != "" || request.method != http.MethodGet {
		mutations = append(mutations, r.mutateValue, r.mutateValue, r.mutateText, r.mutateText, r.mutateText)
	}
	for range 1 + r.IntN(2) {
		pick(r.generator, mutations...)(&request)
	}
	return request
}

func (r *requests) mutateQuery(q *generatedRequest) {
	name := pick(r.generator, "limit", "cursor", "after", "order", "status", "label", "mode", "view", "q", "created_after", "kind", "flow_id", "nonsense", "é", "")
	value := pick(r.generator, "", "0", "-1", "501", "1e3", "null", "x", "\x00", "\xff", "2026-04-23", "9223372036854775808", strings.Repeat("a", 300), "team", ":", r.letters(1, 10))
	q.query = url.Values(http.Header(q.query).Clone())
	if q.query == nil {
		q.query = url.Values{}
	}
	q.query.Add(name, value)
}

func (r *requests) mutateHeaders(q *generatedRequest) {
	q.headers = append(q.headers, pick(r.generator,
		"If-Match: 3", `If-Match: "1", "2"`, "If-Match: ", `If-Match: "-1"`, `If-Match: "99999999999999999999"`,
		"If-None-Match: x", "If-None-Match: ,", `If-None-Match: "`,
		"Idempotency-Key: ", "Idempotency-Key: a b", `Idempotency-Key: "`, "Idempotency-Key: "+strings.Repeat("k", 256), "Idempotency-Key: é",
		"Content-Type: text/plain", "Content-Type: application/json; charset=latin-1", "Content-Type: ;", "-Content-Type",
		"Accept: image/png", "Accept: text/html", "Accept: ;;", "Prefer: wait=x", "Content-Encoding: gzip", "Origin: https://elsewhere.example", "Sec-Fetch-Site: cross-site",
	))
}

func (r *requests) mutatePath(q *generatedRequest) {
	last := strings.LastIndexByte(q.path, '/')
	switch r.IntN(8) {
	case 0:
		q.path += "/"
	case 1:
		q.path += "/" + url.PathEscape(r.letters(1, 5))
	case 2:
		q.path = q.path[:last+1] + pick(r.generator, "%00", "%2e%2e", "%25", "%ff", "..", ".", "x", "%0a", strings.Repeat("a", 5000))
	case 3:
		q.path = strings.ToUpper(q.path)
	case 4:
		q.path = strings.Replace(q.path, "-", "", 1)
	case 5:
		q.path = "/" + q.path
	case 6:
		q.path = q.path[:1+r.IntN(len(q.path))]
		q.path = strings.TrimRight(q.path, "%0123456789abcdefABCDEF") // no half of an escape
		if q.path == "" {
			q.path = "/"
		}
	default:
		q.method = pick(r.generator, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead, http.MethodOptions, "TRACE", "NONSENSE")
	}
}

// mutateValue changes one value of the body, leaves one out, or adds one.
func (r *requests) mutateValue(q *generatedRequest) {
	var body any
	if json.Unmarshal([]byte(q.body), &body) != nil {
		body = map[string]any{}
	}
	object, ok := body.(map[string]any)
	for depth := r.IntN(4); ok && depth > 0; depth-- { // down to an object inside
		for _, inner := range object {
			if list, is := inner.([]any); is && len(list) > 0 {
				inner = list[0]
			}
			if next, is := inner.(map[string]any); is {
				object = next
				break
			}
		}
	}
	keys := []string{"nonsense", "id", "state", "wait", "labels"}
	for key := range object {
		keys = append(keys, key, key)
	}
	slices.Sort(keys)
	key := pick(r.generator, keys...)
	if object == nil {
		object = map[string]any{}
		body = object
	}
	if r.oneIn(4) {
		delete(object, key)
	} else {
		object[key] = pick[any](r.generator, nil, true, -1, 1.5, "", "x", uuid.NewString(), strings.Repeat("😀", 4097), strings.Repeat("x", 257), []any{}, map[string]any{},
			map[string]any{"a": nil}, []any{map[string]any{}}, "P1Y", "-PT1S", "9999-12-31T23:59:60Z", "0000-01-01T00:00:00Z", json.RawMessage("12345678901234567890"), json.RawMessage("1e309"),
			json.RawMessage(`"`+strings.Repeat("a", 300<<10)+`"`), json.RawMessage(r.json(3)))
	}
	if text, err := json.Marshal(body); err == nil {
		q.body = string(text)
	}
}

// mutateText damages the body as text.
func (r *requests) mutateText(q *generatedRequest) {
	at := 0
	if q.body != "" {
		at = r.IntN(len(q.body))
	}
	junk := pick(r.generator, "\x00", "\xff", "\xed\xa0\x80", `\ud83d`, `\u0000`, `{"a":1,"a":2}`, "{", "}", "]", `"`, ",", ":", "NaN", "1e999", strings.Repeat("7", 65), "\ufeff",
		strings.Repeat("[", 65), " ", "//", "\x1b", "'")
	switch r.IntN(5) {
	case 0:
		q.body = q.body[:at]
	case 1:
		q.body += junk
	case 2:
		q.body = junk
	case 3:
		if r.oneIn(8) {
			junk = strings.Repeat(" ", maxBody)
		}
		fallthrough
	default:
		q.body = q.body[:at] + junk + q.body[at:]
	}
}
