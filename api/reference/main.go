// Command reference writes docs/reference.md: every operation of the contract, its objects, and the problems. What it says
// is api/openapi.yaml's, and package httpapi's for scopes and problems; it knows nothing by itself. It is run by go generate
// and by scripts/check-generated, and no other package uses it.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	contract "taskflow/api"
	"taskflow/internal/httpapi"

	"github.com/getkin/kin-openapi/openapi3"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "writing the reference:", err)
		os.Exit(1)
	}
}

func write(args []string) error {
	if len(args) != 1 {
		return errors.New("say where to, and nothing else")
	}
	page, err := reference(contract.Spec)
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], []byte(page), 0o644)
}

const preface = `# Reference

<!-- Generated from api/openapi.yaml by make generate. Edit that. -->

Every call, object and problem. The same can be tried out on a running server under ` + "`/docs`" + `, and read by programs under
` + "`/openapi.yaml`" + ` and ` + "`/openapi.json`" + `.

`

// reference is the whole page.
func reference(spec []byte) (string, error) {
	doc, err := openapi3.NewLoader().LoadFromData(spec)
	if err != nil {
		return "", fmt.Errorf("reading the contract: %w", err)
	}
	p := &page{doc: doc}
	p.text.WriteString(preface)
	p.paragraph(doc.Info.Description)
	calls := operations(doc, spec)
	p.index(calls)
	for _, tag := range doc.Tags {
		p.printf("## %s\n\n%s\n\n", title(tag.Name), tag.Description)
		for _, call := range calls {
			if call.Tags[0] == tag.Name {
				if err := p.operation(call); err != nil {
					return "", fmt.Errorf("%s: %w", call.OperationID, err)
				}
			}
		}
	}
	p.sharedParameters()
	p.objects()
	p.problems()
	return strings.TrimRight(p.text.String(), "\n") + "\n", nil
}

// page is what has been written so far.
type page struct {
	doc  *openapi3.T
	text strings.Builder
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.text, format, args...) }

// paragraph writes text that has its own lines.
func (p *page) paragraph(text string) {
	if text = strings.TrimSpace(text); text != "" {
		p.printf("%s\n\n", text)
	}
}

// call is one operation, with the parameters of its path as well.
type call struct {
	*openapi3.Operation
	method, path string
	parameters   openapi3.Parameters
}

func (c call) name() string   { return c.method + " " + c.path }
func (c call) anchor() string { return anchor(c.name()) }

// operations lists the calls in the order of the contract's text.
func operations(doc *openapi3.T, spec []byte) []call {
	var all []call
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			all = append(all, call{o, method, path, slices.Concat(item.Parameters, o.Parameters)})
		}
	}
	place := func(c call) int { return bytes.Index(spec, []byte("operationId: "+c.OperationID+"\n")) }
	slices.SortFunc(all, func(a, b call) int { return place(a) - place(b) })
	return all
}

// index is a table of all calls.
func (p *page) index(calls []call) {
	p.printf("| call | | scope |\n|---|---|---|\n")
	for _, c := range calls {
		p.printf("| [`%s`](#%s) | %s | %s |\n", c.name(), c.anchor(), c.Summary, scope(c))
	}
	p.printf("\n")
}

func scope(c call) string {
	switch needs := httpapi.ScopeOf(c.OperationID); {
	case needs != "":
		return code(needs)
	case c.Security != nil && len(*c.Security) == 0:
		return "none"
	}
	return "that of each command"
}

func (p *page) operation(c call) error {
	p.printf("### %s\n\n**%s**\n\n", c.name(), c.Summary)
	p.paragraph(c.Description)
	p.parameters(c.parameters)
	if c.RequestBody != nil {
		if err := p.body(c); err != nil {
			return err
		}
	}
	p.answers(c)
	if listed := problemsOf(c.Extensions); len(listed) > 0 {
		p.printf("Problems: %s.\n\n", strings.Join(listed, ", "))
	}
	return nil
}

// parameters writes a table of those that belong to this call, and a line of those that many calls have.
func (p *page) parameters(all openapi3.Parameters) {
	var own openapi3.Parameters
	var shared []string
	for _, parameter := range all {
		if parameter.Ref != "" {
			shared = append(shared, fmt.Sprintf("[`%s`](#parameters-of-many-calls)", parameter.Value.Name))
		} else {
			own = append(own, parameter)
		}
	}
	if len(own) > 0 {
		p.parameterTable(own)
	}
	if len(shared) > 0 {
		p.printf("Takes %s.\n\n", strings.Join(shared, ", "))
	}
}

func (p *page) parameterTable(all openapi3.Parameters) {
	p.printf("| parameter | in | | |\n|---|---|---|---|\n")
	for _, parameter := range all {
		v := parameter.Value
		p.printf("| `%s` | %s | %s | %s |\n", v.Name, v.In, cell(typeOf(v.Schema)), cell(cmp.Or(v.Description, v.Schema.Value.Description)))
	}
	p.printf("\n")
}

func (p *page) sharedParameters() {
	p.printf("## Parameters of many calls\n\n")
	var all openapi3.Parameters
	for _, name := range sorted(p.doc.Components.Parameters) {
		all = append(all, p.doc.Components.Parameters[name])
	}
	p.parameterTable(all)
}

// body writes what a call takes, and its first example.
func (p *page) body(c call) error {
	content := c.RequestBody.Value.Content
	media := content["application/json"]
	if len(content) > 1 {
		p.printf("Body: anything, as %s.\n\n", strings.Join(sorted(content), ", "))
		return nil
	}
	optional := ""
	if !c.RequestBody.Value.Required {
		optional = ", or none"
	}
	if media.Schema.Ref == "#/components/schemas/Empty" {
		p.printf("Body: `{}`%s.\n\n", optional)
		return nil
	}
	p.printf("Body: %s%s.\n\n", typeOf(media.Schema), optional)
	for _, name := range sorted(media.Examples) {
		example := media.Examples[name].Value
		text, err := json.MarshalIndent(example.Value, "", "  ")
		if err != nil {
			return err
		}
		p.printf("%s:\n\n```json\n%s\n```\n\n", example.Summary, text)
	}
	return nil
}

// answers writes what a call answers when all is well.
func (p *page) answers(c call) {
	for _, status := range sorted(c.Responses.Map()) {
		if status == "default" {
			continue
		}
		answer := c.Responses.Value(status).Value
		p.printf("- %s: %s", status, cell(*answer.Description))
		if kinds := kindsOf(answer.Content); len(kinds) > 0 {
			p.printf(" %s.", strings.Join(kinds, " or "))
		}
		var headers []string
		for _, name := range sorted(answer.Headers) {
			headers = append(headers, code(name))
		}
		if len(headers) > 0 {
			p.printf(" Headers: %s.", strings.Join(headers, ", "))
		}
		p.printf("\n")
	}
	p.printf("\n")
}

// kindsOf says in words what an answer's body may be.
func kindsOf(content openapi3.Content) []string {
	var kinds []string
	for _, media := range sorted(content) {
		kind := code(media)
		if media == "application/json" {
			kind = typeOf(content[media].Schema)
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

// objects writes a table of the fields of each object of the contract.
func (p *page) objects() {
	p.printf("## Objects\n\nFields in *italics* may be left out.\n\n")
	for _, name := range sorted(p.doc.Components.Schemas) {
		schema := p.doc.Components.Schemas[name].Value
		if len(schema.Properties) == 0 {
			continue
		}
		p.printf("### %s\n\n", name)
		p.paragraph(schema.Description)
		p.printf("| field | | |\n|---|---|---|\n")
		for _, field := range fields(schema) {
			name := code(field)
			if !slices.Contains(schema.Required, field) {
				name = "*" + name + "*"
			}
			p.printf("| %s | %s | %s |\n", name, cell(typeOf(schema.Properties[field])), cell(schema.Properties[field].Value.Description))
		}
		p.printf("\n")
	}
}

func (p *page) problems() {
	p.printf("## Problems\n\nEvery error is a [Problem](#problem). Any call may be refused with %s.\n\n", strings.Join(problemsOf(p.doc.Extensions), ", "))
	p.printf("| type | status | |\n|---|---|---|\n")
	for _, kind := range httpapi.Problems() {
		p.printf("| `%s` | %d | %s |\n", kind.Slug, kind.Status, cell(kind.About))
	}
}

// problemsOf lists the slugs that an extension of the contract names.
func problemsOf(extensions map[string]any) []string {
	var slugs []string
	listed, _ := extensions["x-problems"].([]any)
	for _, slug := range listed {
		slugs = append(slugs, code(fmt.Sprint(slug)))
	}
	return slugs
}
