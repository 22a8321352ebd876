package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// operations visits every operation of the contract.
func operations(t *testing.T, visit func(t *testing.T, method, path string, item *openapi3.PathItem, o *openapi3.Operation)) {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			t.Run(method+" "+path, func(t *testing.T) { visit(t, method, path, item, operation) })
		}
	}
}

// TestEveryOperationIsExplained wants a summary, a description, a tag and an example of every body.
func TestEveryOperationIsExplained(t *testing.T) {
	ids := map[string]bool{}
	operations(t, func(t *testing.T, method, _ string, item *openapi3.PathItem, o *openapi3.Operation) {
		if o.OperationID == "" || ids[o.OperationID] || o.Summary == "" || o.Description == "" || len(o.Tags) != 1 {
			t.Errorf("id %q, summary %q, description %q, tags %q", o.OperationID, o.Summary, o.Description, o.Tags)
		}
		ids[o.OperationID] = true
		if o.RequestBody != nil {
			checkExamples(t, "the request", o.RequestBody.Value.Content, openapi3.VisitAsRequest())
		}
		if o.Responses.Default() == nil {
			t.Error("nothing is said of errors")
		}
		for status, response := range o.Responses.Map() {
			if response.Value.Description == nil || *response.Value.Description == "" {
				t.Errorf("answer %s is not described", status)
			}
			if status != "204" && status != "304" {
				checkExamples(t, "answer "+status, response.Value.Content, openapi3.VisitAsResponse())
			}
		}
		for _, p := range slices.Concat(item.Parameters, o.Parameters) {
			checkParameter(t, method, p.Value)
		}
	})
}

// checkExamples validates each example of a body against its schema. Free JSON in it may be anything.
func checkExamples(t *testing.T, what string, content openapi3.Content, as openapi3.SchemaValidationOption) {
	t.Helper()
	if len(content) == 0 {
		t.Errorf("%s has no media type", what)
	}
	for media, kind := range content {
		if len(kind.Examples) == 0 && kind.Example == nil {
			t.Errorf("%s has no example as %s", what, media)
		}
		for name, example := range kind.Examples {
			if example.Value.Summary == "" {
				t.Errorf("%s: the example %s has no summary", what, name)
			}
			if err := kind.Schema.Value.VisitJSON(example.Value.Value, append(formats, as, openapi3.MultiErrors())...); err != nil {
				t.Errorf("%s: the example %s: %v", what, name, err)
			}
		}
	}
}

func checkParameter(t *testing.T, method string, p *openapi3.Parameter) {
	t.Helper()
	if p.Schema == nil || p.Description == "" && p.Schema.Value.Description == "" && p.Schema.Value.Type.Is("string") && p.Schema.Value.Format == "" {
		t.Errorf("%s parameter %s is not described", p.In, p.Name)
	}
	if p.Example != nil && !p.Required {
		t.Errorf("the viewer at /docs would send the example of %s unasked", p.Name)
	}
	if p.Example != nil {
		if err := p.Schema.Value.VisitJSON(p.Example, formats...); err != nil {
			t.Errorf("the example of %s: %v", p.Name, err)
		}
	}
	if p.In == openapi3.ParameterInQuery && method != http.MethodGet {
		t.Errorf("%s takes the query parameter %s", method, p.Name)
	}
}

// TestHeadersOfTheContract wants If-Match on every change of a flow, and Idempotency-Key on every POST.
func TestHeadersOfTheContract(t *testing.T) {
	operations(t, func(t *testing.T, method, path string, item *openapi3.PathItem, o *openapi3.Operation) {
		has := map[string]bool{}
		for _, p := range slices.Concat(item.Parameters, o.Parameters) {
			has[p.Value.Name] = true
		}
		if want := method != http.MethodGet && strings.HasPrefix(path, "/flows/"); has["If-Match"] != want {
			t.Errorf("If-Match: %t, want %t", has["If-Match"], want)
		}
		if want := method == http.MethodPost && !strings.HasPrefix(path, "/callbacks/"); has["Idempotency-Key"] != want {
			t.Errorf("Idempotency-Key: %t, want %t", has["Idempotency-Key"], want)
		}
	})
}

// TestExamplesOfTheContractWork sends every example of a request to a flow that takes it.
func TestExamplesOfTheContractWork(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		operations(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, o *openapi3.Operation) {
			if o.RequestBody == nil || slices.Contains(o.Tags, "callbacks") { // those have tests of their own, of every kind of body
				return
			}
			api := api.in(t)
			for name, example := range o.RequestBody.Value.Content["application/json"].Examples {
				body, err := json.Marshal(example.Value.Value)
				if err != nil {
					t.Fatal(err)
				}
				target := path
				if verb, ok := strings.CutPrefix(path, "/flows/{id}/"); ok {
					if method == http.MethodPut {
						verb = "observe"
					}
					target = strings.NewReplacer("/flows/{id}", api.inStatus(changes[verb]), "{run_id}", "draft-1").Replace(path)
				}
				if a := api.do(method, target, string(body)); a.status/100 != 2 {
					t.Errorf("the example %s: %d %s", name, a.status, a.body)
				}
			}
		})
	})
}
