package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// typeOf says in words what a schema allows. An object of the contract is a link to its table.
func typeOf(ref *openapi3.SchemaRef) string {
	schema := ref.Value
	name, named := strings.CutPrefix(ref.Ref, "#/components/schemas/")
	words := ""
	switch {
	case named && len(schema.Properties) > 0:
		words = fmt.Sprintf("[%s](#%s)", name, anchor(name))
	case len(schema.Enum) > 0:
		words = oneOf(schema.Enum)
	case schema.Type == nil:
		return "any JSON"
	case schema.Type.Is("array"):
		words = "array: " + listOf(schema)
	case schema.Type.Is("object"):
		words = objectOf(schema)
	case schema.Type.Is("integer"):
		words = integer(schema)
	case schema.Type.Is("string"):
		words = text(schema)
	default:
		words = (*schema.Type)[0]
	}
	if schema.Nullable {
		words += " or null"
	}
	if schema.Default != nil {
		words += fmt.Sprintf("; `%v` by default", schema.Default)
	}
	return words
}

func oneOf(values []any) string {
	var words []string
	for _, value := range values {
		words = append(words, code(fmt.Sprint(value)))
	}
	return strings.Join(words, ", ")
}

// listOf says what is in an array, and how many of them.
func listOf(schema *openapi3.Schema) string {
	if many := length(schema.MinItems, schema.MaxItems, "of"); many != "" {
		return many + " " + typeOf(schema.Items)
	}
	return typeOf(schema.Items)
}

func objectOf(schema *openapi3.Schema) string {
	if len(schema.Properties) > 0 {
		var parts []string
		for _, field := range fields(schema) {
			parts = append(parts, fmt.Sprintf("`%s`: %s", field, typeOf(schema.Properties[field])))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	if values := schema.AdditionalProperties.Schema; values != nil {
		return "object of " + typeOf(values)
	}
	return "object"
}

func integer(schema *openapi3.Schema) string {
	switch {
	case schema.Min != nil && schema.Max != nil:
		return fmt.Sprintf("integer, %v to %v", *schema.Min, *schema.Max)
	case schema.Min != nil:
		return fmt.Sprintf("integer, from %v", *schema.Min)
	}
	return "integer"
}

func text(schema *openapi3.Schema) string {
	switch schema.Format {
	case "uuid":
		return "UUID"
	case "uri":
		return "URL"
	case "date-time":
		return "time"
	case "iso-duration":
		return "duration"
	}
	if of := length(schema.MinLength, schema.MaxLength, "characters"); of != "" {
		return "string of " + of
	}
	return "string"
}

// length says how many of what there may be; "" where the contract sets no limit.
func length(least uint64, most *uint64, what string) string {
	if most == nil {
		return ""
	}
	return fmt.Sprintf("%d to %d %s", least, *most, what)
}

// fields are the names of an object's fields: those that it must have first, in the order in which the contract requires them.
func fields(schema *openapi3.Schema) []string {
	var all []string
	for _, name := range schema.Required {
		if schema.Properties[name] != nil {
			all = append(all, name)
		}
	}
	for _, name := range sorted(schema.Properties) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// cell is text as one line of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

func code(text string) string { return "`" + text + "`" }

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// anchor is what a heading is linked by.
func anchor(heading string) string {
	keep := func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
			return r
		}
		return -1
	}
	return strings.Map(keep, strings.ToLower(heading))
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
