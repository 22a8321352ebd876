package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// These tests pin the import graph. The table is the one in docs/ARCHITECTURE.md; a package that is in no row is refused,
// so that a new one is entered in both.

const module = "taskflow/"

// rule says what one package of this module may import from this module.
type rule struct {
	// code is what the files that ship may import; tests is what its _test.go files may import besides, and besides
	// the package itself.
	code, tests []string
	// testOnly packages are imported by tests, by one another, and by bench.
	testOnly bool
}

// rules is the table. A value ending in /... names a whole tree.
func rules() map[string]rule {
	stores := []string{"internal/flows", "internal/store", "migrations"}
	suite := []string{"internal/store/storetest"}
	everything := []string{"api", "migrations", "internal/..."}
	return map[string]rule{
		"internal":                   {tests: []string{}}, // this test
		"internal/flows":             {},
		"internal/httpapi/oas":       {},
		"migrations":                 {},
		"api":                        {},
		"api/reference":              {code: []string{"api", "internal/httpapi"}},
		"internal/telemetry":         {},
		"internal/store":             {code: []string{"internal/flows"}, tests: suite},
		"internal/pg":                {code: stores, tests: append(suite, "internal/pg/pgtest")},
		"internal/sqlite":            {code: stores, tests: append(suite, "internal/sqlite/sqlitetest")},
		"internal/engine":            {code: []string{"internal/flows", "internal/store"}, tests: everything},
		"internal/auth":              {code: []string{"internal/flows", "internal/store"}, tests: []string{"internal/auth/authtest"}},
		"internal/auth/authtest":     {testOnly: true},
		"internal/httpapi":           {code: []string{"api", "internal/auth", "internal/httpapi/oas", "internal/engine", "internal/flows", "internal/store"}, tests: everything},
		"internal/dashboard":         {tests: []string{"internal/flows", "internal/pg/pgtest", "internal/servertest"}},
		"cmd/server":                 {code: everything, tests: everything},
		"internal/store/storetest":   {code: []string{"internal/flows", "internal/store"}, testOnly: true},
		"internal/pg/pgtest":         {code: []string{"internal/pg", "migrations"}, testOnly: true},
		"internal/sqlite/sqlitetest": {code: []string{"internal/sqlite"}, testOnly: true},
		"internal/servertest":        {code: []string{"internal/pg/pgtest"}, testOnly: true},
		"bench":                      {code: []string{"internal/pg/pgtest", "internal/servertest"}, tests: everything},
		"faults":                     {code: []string{"internal/pg/pgtest", "internal/servertest"}, tests: everything},
	}
}

// standard is all that the domain may import besides google/uuid: packages that compute, and touch nothing outside.
func standard() []string {
	return []string{"bytes", "cmp", "encoding/json", "errors", "fmt", "iter", "maps", "math", "regexp", "slices", "sort",
		"strconv", "strings", "time", "unicode", "unicode/utf8", "github.com/google/uuid"}
}

// outside lists, by package, the names that would let the domain read a clock, wait, draw at random or print.
func outside() map[string][]string {
	return map[string][]string{
		"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation"},
		"uuid": {"New", "NewString", "NewRandom", "NewRandomFromReader", "NewUUID", "NewV6", "NewV7", "NewV7FromReader", "SetRand"},
		"fmt":  {"Print", "Println", "Printf", "Scan", "Scanln", "Scanf"},
	}
}

// changing lists what of package store the HTTP interface must not name: it only reads.
func changing() map[string][]string {
	return map[string][]string{"store": {"Store", "Updater", "Tx", "Need", "Snapshot", "Writes", "FlowUpdate", "Answer"}}
}

func TestArchitecture(t *testing.T) {
	found, err := check(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, violation := range found {
		t.Error(violation)
	}
}

// check walks every Go file below root and returns what breaks a rule.
func check(root fs.FS) ([]string, error) {
	var found []string
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found = append(found, checkFile(name, file)...)
		return nil
	})
	return found, err
}

func checkFile(name string, file *ast.File) []string {
	own, isTest := path.Dir(name), strings.HasSuffix(name, "_test.go")
	r, known := rules()[own]
	if !known {
		return []string{fmt.Sprintf("%s: package %s is in no row of the table", name, own)}
	}
	var found []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return []string{fmt.Sprintf("%s: import %s: %v", name, spec.Path.Value, err)}
		}
		if target, ours := strings.CutPrefix(imported, module); ours && !allowed(r, own, target, isTest) {
			found = append(found, fmt.Sprintf("%s: %s must not import %s", name, own, target))
		}
		if own == "internal/flows" && !isTest && !slices.Contains(standard(), imported) {
			found = append(found, fmt.Sprintf("%s: the domain must not import %s", name, imported))
		}
	}
	if own == "internal/flows" && !isTest {
		found = append(found, named(name, file, outside())...)
	}
	if (own == "internal/httpapi" || own == "internal/auth") && !isTest {
		found = append(found, named(name, file, changing())...)
	}
	return found
}

// allowed reports whether a file of own may import target.
func allowed(r rule, own, target string, isTest bool) bool {
	if isTest && (target == own || contains(r.tests, target)) {
		return true
	}
	shipped := !isTest && !r.testOnly && own != "bench" && own != "faults"
	if shipped && rules()[target].testOnly {
		return false
	}
	return contains(r.code, target)
}

func contains(list []string, target string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		tree, isTree := strings.CutSuffix(entry, "/...")
		return entry == target || isTree && strings.HasPrefix(target, tree+"/")
	})
}

// named finds where a file names what it must not.
func named(name string, file *ast.File, names map[string][]string) []string {
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		selector, is := n.(*ast.SelectorExpr)
		if !is {
			return true
		}
		if of, is := selector.X.(*ast.Ident); is && slices.Contains(names[of.Name], selector.Sel.Name) {
			found = append(found, fmt.Sprintf("%s: %s must not name %s.%s", name, path.Dir(name), of.Name, selector.Sel.Name))
		}
		return true
	})
	return found
}

// TestArchitectureChecker plants violations, and things that only look like one.
func TestArchitectureChecker(t *testing.T) {
	for name, c := range map[string]struct {
		file, imports string
		fine          bool
	}{
		"domain and store":            {"internal/flows/a.go", "taskflow/internal/store", false},
		"domain and os":               {"internal/flows/a.go", "os", false},
		"domain and a library":        {"internal/flows/a.go", "github.com/jackc/pgx/v5", false},
		"domain and uuid":             {"internal/flows/a.go", "github.com/google/uuid", true},
		"domain's tests":              {"internal/flows/a_test.go", "os", true},
		"domain's tests and suite":    {"internal/flows/a_test.go", "taskflow/internal/store/storetest", false},
		"store and domain":            {"internal/store/a.go", "taskflow/internal/flows", true},
		"store and engine":            {"internal/store/a.go", "taskflow/internal/engine", false},
		"store and suite":             {"internal/store/a.go", "taskflow/internal/store/storetest", false},
		"pg and sqlite":               {"internal/pg/a.go", "taskflow/internal/sqlite", false},
		"pg's tests and sqlite":       {"internal/pg/a_test.go", "taskflow/internal/sqlite", false},
		"sqlite and pg":               {"internal/sqlite/a.go", "taskflow/internal/pg", false},
		"sqlite and migrations":       {"internal/sqlite/a.go", "taskflow/migrations", true},
		"sqlite's tests and suite":    {"internal/sqlite/a_test.go", "taskflow/internal/store/storetest", true},
		"sqlite's tests and itself":   {"internal/sqlite/a_test.go", "taskflow/internal/sqlite", true},
		"sqlite and suite":            {"internal/sqlite/a.go", "taskflow/internal/store/storetest", false},
		"engine and pg":               {"internal/engine/a.go", "taskflow/internal/pg", false},
		"engine and http":             {"internal/engine/a.go", "taskflow/internal/httpapi", false},
		"engine's tests and suite":    {"internal/engine/a_test.go", "taskflow/internal/store/storetest", true},
		"http and pg":                 {"internal/httpapi/a.go", "taskflow/internal/pg", false},
		"http's tests and pg":         {"internal/httpapi/a_test.go", "taskflow/internal/pg", true},
		"http and auth":               {"internal/httpapi/a.go", "taskflow/internal/auth", true},
		"auth and store":              {"internal/auth/a.go", "taskflow/internal/store", true},
		"auth and pg":                 {"internal/auth/a.go", "taskflow/internal/pg", false},
		"auth and http":               {"internal/auth/a.go", "taskflow/internal/httpapi", false},
		"server and an issuer":        {"cmd/server/a.go", "taskflow/internal/auth/authtest", false},
		"http and generated":          {"internal/httpapi/a.go", "taskflow/internal/httpapi/oas", true},
		"dashboard and domain":        {"internal/dashboard/a.go", "taskflow/internal/flows", false},
		"dashboard's tests and built": {"internal/dashboard/a_test.go", "taskflow/internal/servertest", true},
		"generated and domain":        {"internal/httpapi/oas/a.go", "taskflow/internal/flows", false},
		"telemetry and engine":        {"internal/telemetry/a.go", "taskflow/internal/engine", false},
		"engine and telemetry":        {"internal/engine/a.go", "taskflow/internal/telemetry", false},
		"server and telemetry":        {"cmd/server/a.go", "taskflow/internal/telemetry", true},
		"server and suite":            {"cmd/server/a.go", "taskflow/internal/store/storetest", false},
		"server and private cluster":  {"cmd/server/a.go", "taskflow/internal/pg/pgtest", false},
		"server and pg":               {"cmd/server/a.go", "taskflow/internal/pg", true},
		"server's tests and cluster":  {"cmd/server/a_test.go", "taskflow/internal/pg/pgtest", true},
		"benchmark and cluster":       {"bench/a.go", "taskflow/internal/pg/pgtest", true},
		"benchmark and suite":         {"bench/a.go", "taskflow/internal/store/storetest", false},
		"benchmark and engine":        {"bench/a.go", "taskflow/internal/engine", false},
		"cluster and pg":              {"internal/pg/pgtest/a.go", "taskflow/internal/pg", true},
		"cluster and engine":          {"internal/pg/pgtest/a.go", "taskflow/internal/engine", false},
		"migrations and pg":           {"migrations/a.go", "taskflow/internal/pg", false},
		"a package in no row":         {"internal/helpers/a.go", "fmt", false},
		"a package in no row, tested": {"internal/helpers/a_test.go", "fmt", false},
		"a folder that is no package": {"internal/pg/testdata/a.go", "taskflow/internal/sqlite", true},
		"a folder that is hidden":     {".git/a.go", "taskflow/internal/sqlite", true},
	} {
		t.Run(name, func(t *testing.T) {
			source := "package p\n\nimport _ " + strconv.Quote(c.imports) + "\n"
			found, err := check(fstest.MapFS{c.file: {Data: []byte(source)}})
			if err != nil || (len(found) == 0) != c.fine {
				t.Errorf("found %q, %v", found, err)
			}
		})
	}
}

// TestArchitectureCheckerReadsNames plants names that a package must not use.
func TestArchitectureCheckerReadsNames(t *testing.T) {
	for _, c := range []struct {
		file, body string
		fine       bool
	}{
		{"internal/flows/a.go", "var x = time.Now()", false},
		{"internal/flows/a.go", "var x = uuid.Must(uuid.NewV7())", false},
		{"internal/flows/a.go", "func f() { fmt.Println() }", false},
		{"internal/flows/a.go", "var x = time.Second + fmt.Sprint()", true},
		{"internal/flows/a_test.go", "var x = time.Now()", true},
		{"internal/httpapi/a.go", "func f(s store.Updater) {}", false},
		{"internal/httpapi/a.go", "func f(s store.Reader) {}", true},
		{"internal/engine/a.go", "func f(s store.Updater) {}", true},
	} {
		found, err := check(fstest.MapFS{c.file: {Data: []byte("package p\n\n" + c.body + "\n")}})
		if err != nil || (len(found) == 0) != c.fine {
			t.Errorf("%s with %s: found %q, %v", c.file, c.body, found, err)
		}
	}
}

// TestArchitectureIsDocumented holds that every package of the table has its line on the page.
func TestArchitectureIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range rules() {
		if name != "internal" && !strings.Contains(string(page), "\n"+name+"/") {
			t.Errorf("docs/ARCHITECTURE.md does not list %s/", name)
		}
	}
}
