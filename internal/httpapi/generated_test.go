package httpapi_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

var (
	generated = flag.Int("generated", 60, "how many requests are generated for each operation of the contract")
	seed      = flag.Uint64("seed", 1, "what the generated requests are made from")
)

// TestGeneratedRequests sends generated requests to every operation, as the contract has them and mutated. None is
// answered with a 5xx, none ends in a panic, and every answer is what the contract says (the client sees to that). What
// is as the contract has it is never refused for its form.
func TestGeneratedRequests(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		operations(t, func(t *testing.T, method, path string, item *openapi3.PathItem, o *openapi3.Operation) {
			r := &requests{
				generator: newGenerator(*seed), api: api.in(t), method: method, path: path, operation: o,
				parameters: slices.Concat(item.Parameters, o.Parameters),
			}
			good, mutated := map[int]int{}, map[int]int{}
			for i := range *generated {
				request := r.next()
				outcomes := good
				if i%2 == 1 {
					request, outcomes = r.mutate(request), mutated
				}
				a := request.send(r.api)
				outcomes[a.status]++
				if a.status >= 500 || i%2 == 0 && refusedForItsForm(a.status) {
					t.Errorf("request %d, %s, was answered with %d: %s", i, request, a.status, shorten(a.body))
				}
			}
			if !slices.ContainsFunc(slices.Collect(maps.Keys(good)), func(status int) bool { return status/100 == 2 }) {
				t.Errorf("none of the good requests was taken: %v", good)
			}
			if t.Failed() {
				t.Logf("generated from -seed %d", *seed)
			}
			t.Logf("as the contract has them: %v; mutated: %v", good, mutated)
		})
		if log := api.logged.String(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
			t.Errorf("the log has an error: %s", shorten(log[max(0, strings.Index(log, "level=ERROR")):]))
		}
	})
}

func refusedForItsForm(status int) bool {
	return slices.Contains([]int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}, status)
}

// generatedRequest is one request, ready to be sent or mutated.
type generatedRequest struct {
	method  string
	path    string // escaped
	query   url.Values
	headers []string // lines
	body    string
}

func (r generatedRequest) String() string {
	return fmt.Sprintf("%s %s?%s %q %s", r.method, r.path, r.query.Encode(), r.headers, shorten(r.body))
}

func (r generatedRequest) send(api *client) answer {
	api.t.Helper()
	target := r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	return api.do(r.method, target, r.body, r.headers...)
}

// requests makes requests to one operation.
type requests struct {
	*generator
	api          *client
	method, path string
	operation    *openapi3.Operation
	parameters   openapi3.Parameters
	flows        []string // paths of those made so far
	tokens       []string // of callbacks, likewise
}

// next makes a request as the contract has it.
func (r *requests) next() generatedRequest {
	request := generatedRequest{method: r.method, query: url.Values{}}
	request.path = r.target()
	for _, p := range r.parameters {
		r.parameter(&request, p.Value)
	}
	if request.query.Has("after") { // not both
		request.query.Del("cursor")
	}
	if body := r.operation.RequestBody; body != nil {
		r.body(&request, body.Value)
	}
	return request
}

// target is the path with something in the place of each parameter, mostly something that there is.
func (r *requests) target() string {
	var flow string
	runID := "run-1"
	switch {
	case strings.HasPrefix(r.path, "/flows/{id}"):
		flow = strings.TrimPrefix(r.flow(), "/flows/")
		if strings.HasSuffix(r.path, "{run_id}") {
			runID = pick(r.generator, runID, "a/b", "100%", "é", r.letters(1, 40))
		}
		if strings.HasSuffix(r.path, "{run_id}") && r.method == http.MethodGet && r.oneIn(2) {
			r.api.put("/flows/"+flow+"/steps/"+url.PathEscape(runID), `{"task":"work","status":"running"}`)
		}
	case strings.HasPrefix(r.path, "/external-events/{id}"):
		flow = uuid.NewString()
		if r.oneIn(2) {
			receipt := r.api.post("/external-events", `{"topic":"t","correlation_id":"generated"}`).want(http.StatusOK)
			flow = strings.Trim(receipt.at("/id"), `"`)
		}
	case strings.HasPrefix(r.path, "/callbacks/"):
		if len(r.tokens) == 0 || r.oneIn(3) {
			_, link := r.api.callback(`{"kind":"callback","details":{"a":1}}`)
			r.tokens = append(r.tokens, link[strings.LastIndexByte(link, '/')+1:])
		}
		return strings.Replace(r.path, "{token}", pick(r.generator, r.tokens...), 1)
	}
	return strings.NewReplacer("{id}", flow, "{run_id}", url.PathEscape(runID)).Replace(r.path)
}

// flow is a flow for the operation: in the status that it needs, or in any, or one that does not exist.
func (r *requests) flow() string {
	verb := strings.TrimPrefix(r.path, "/flows/{id}/")
	switch {
	case r.method == http.MethodDelete:
		verb = "delete"
	case r.method == http.MethodPut:
		verb = "observe"
	case r.method == http.MethodGet && verb == "wait":
		verb = "resume" // for which it waits too
	}
	status := pick(r.generator, statuses...)
	switch needs := changes[verb]; {
	case needs != "" && r.oneIn(4):
		status = needs
	case r.oneIn(8):
		return noFlow()
	case len(r.flows) >= len(statuses) && !r.oneIn(4):
		return pick(r.generator, r.flows...)
	}
	r.flows = append(r.flows, r.api.inStatus(status))
	return r.flows[len(r.flows)-1]
}

// parameter gives some of the query and header parameters a value.
func (r *requests) parameter(request *generatedRequest, p *openapi3.Parameter) {
	if p.In == openapi3.ParameterInPath || !p.Required && r.oneIn(2) {
		return
	}
	switch p.Name {
	case "If-Match":
		request.headers = append(request.headers, "If-Match: "+pick(r.generator, "*", `"0"`, `"1"`, `W/"2"`, `"99"`))
	case "If-None-Match":
		request.headers = append(request.headers, "If-None-Match: "+pick(r.generator, "*", `"0"`, `"1", W/"2"`, `"x"`))
	case "Idempotency-Key":
		request.headers = append(request.headers, "Idempotency-Key: "+pick(r.generator, uuid.NewString(), `"`+uuid.NewString()+`"`))
	case "cursor": // one that there is, of the first page
		list := r.path
		if order := request.query.Get("order"); order != "" {
			list += "?limit=1&order=" + order
		} else {
			list += "?limit=1"
		}
		list = strings.Replace(list, r.path, request.path, 1)
		if next := r.api.get(list); next.status == http.StatusOK && next.at("/next_cursor") != "null" {
			request.query.Set("cursor", strings.Trim(next.at("/next_cursor"), `"`))
		}
	case "label":
		request.query.Add("label", pick(r.generator, "team:a", "a:", "é:é", "a:b:c"))
	default:
		if p.In != openapi3.ParameterInQuery {
			return
		}
		value := r.value(p.Schema.Value)
		if all, several := value.([]any); several {
			for _, one := range all {
				request.query.Add(p.Name, fmt.Sprint(one))
			}
			return
		}
		request.query.Set(p.Name, fmt.Sprint(value))
	}
}

// body writes a body in one of the operation's forms. JSON is what all but the callbacks take.
func (r *requests) body(request *generatedRequest, body *openapi3.RequestBody) {
	media := "application/json"
	if r.oneIn(4) && body.Content[media].Schema.Value.VisitJSON(map[string]any{}) == nil {
		return // an empty body is {}
	}
	if body.Content["*/*"] != nil {
		media = pick(r.generator, media, "application/x-www-form-urlencoded", "text/plain", "image/png")
	}
	switch media {
	case "application/json":
		if r.path == "/batch" {
			request.body = r.batch()
			return
		}
		text, err := json.Marshal(r.value(body.Content[media].Schema.Value))
		if err != nil {
			r.api.t.Fatal(err)
		}
		request.body = string(text)
	case "application/x-www-form-urlencoded":
		request.body = url.Values{r.letters(1, 5): {r.letters(0, 5), r.letters(0, 5)}}.Encode()
	default:
		request.body = r.letters(1, 100)
	}
	request.headers = append(request.headers, "Content-Type: "+media)
}

// batch is a batch of commands, mostly about flows that there are.
func (r *requests) batch() string {
	var commands []string
	for range 1 + r.IntN(4) {
		var command string
		switch r.IntN(5) {
		case 0:
			command = fmt.Sprintf(`{"method":"POST","path":"/flows","body":%s}`, createBody(""))
		case 1:
			command = fmt.Sprintf(`{"method":"POST","path":"%s/state","if_match":"\"%d\"","body":{"patch":%s}}`, r.flow(), r.IntN(3), r.json(2))
		case 2:
			command = fmt.Sprintf(`{"method":"DELETE","path":"%s"}`, r.flow())
		case 3:
			command = fmt.Sprintf(`{"method":"POST","path":"%s/finish","idempotency_key":"%s"}`, r.flow(), uuid.NewString())
		default:
			command = fmt.Sprintf(`{"method":"POST","path":"/%s"}`, url.PathEscape(r.letters(1, 20)))
		}
		commands = append(commands, command)
	}
	return `{"commands":[` + strings.Join(commands, ",") + `]}`
}
