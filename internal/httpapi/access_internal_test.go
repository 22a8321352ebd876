package httpapi

import (
	"maps"
	"slices"
	"testing"

	contract "taskflow/api"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestAccess_TableIsTheContract holds that each operation of the contract has a row in the table of who may do what, that
// no row is of another, that no row is empty, and that the contract says the same of who needs no credentials.
func TestAccess_TableIsTheContract(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(contract.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Security) != 1 {
		t.Fatalf("the contract asks for %v", doc.Security)
	}
	var operations []string
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			operations = append(operations, o.OperationID)
			need, entered := accessOf()[o.OperationID]
			if !entered || need == (access{}) {
				t.Errorf("%s %s (%s) is in no row", method, path, o.OperationID)
			}
			if open := o.Security != nil && len(*o.Security) == 0; open != need.open {
				t.Errorf("%s: open %t in the table, %t in the contract", o.OperationID, need.open, open)
			}
		}
	}
	slices.Sort(operations)
	if rows := slices.Sorted(maps.Keys(accessOf())); !slices.Equal(rows, operations) {
		t.Errorf("the table has %q, the contract %q", rows, operations)
	}
}
