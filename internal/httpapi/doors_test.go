package httpapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/auth"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// TestScopes_OfHead asks with HEAD, which no operation of the contract names: it needs what GET does.
func TestScopes_OfHead(t *testing.T) {
	api := serveSQLite(t, withScopes)
	operations(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, o *openapi3.Operation) {
		need := scopeOf(method, path)
		if method != http.MethodGet || need == "" {
			return
		}
		api := api.in(t)
		target, _ := sample(t, path, uuid.NewString(), o)
		for _, credentials := range []string{"", "Bearer tfk_abcdefghijkl_x", "Basic a3k6"} {
			api.with(credentials).do(http.MethodHead, target, "").want(401)
		}
		for _, scope := range auth.Scopes() {
			a := api.as(string(scope)).do(http.MethodHead, target, "")
			if scope != need {
				a.want(403).hasHeader("WWW-Authenticate", fmt.Sprintf(`Bearer realm="taskflow", error="insufficient_scope", scope="%s"`, need))
			} else if a.status == 401 || a.status == 403 {
				t.Errorf("with %s: %d", scope, a.status)
			}
		}
	})
}

// besides are the routes that the contract's section 7 has beside its operations, and whether they are open to all. Where a
// new one is to go in here, somebody has to have thought about who may use it.
var besides = map[string]bool{
	"/openapi.json": true, "/openapi.yaml": true, "/docs": true, "/docs/*": true, "/problems": true, "/problems/{slug}": true, "/metrics": false,
}

// TestRoutes_AreClosedByDefault walks what the router has, however it got there: each route is an operation of the contract,
// a page of the dashboard, or one of those beside them, and whatever is not open to all lets nobody in who does not say
// who they are.
func TestRoutes_AreClosedByDefault(t *testing.T) {
	api := serveSQLite(t, withScopes, func(s *setup) {
		s.options.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	})
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	err = chi.Walk(api.api.Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		found = append(found, method+" "+route)
		open, known := isOpen(doc, method, route)
		if !known {
			t.Errorf("%s %s is no route that the contract has", method, route)
			return nil
		}
		target := strings.NewReplacer("{id}", uuid.NewString(), "{run_id}", "r", "{token}", "forged", "{slug}", "internal", "*", "x").Replace(route)
		for _, method := range withHead(method) {
			if a := api.do(method, target, ""); (a.status == http.StatusUnauthorized) == open {
				t.Errorf("%s %s without credentials: %d, open to all: %t", method, target, a.status, open)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for route := range besides {
		if !slices.Contains(found, "GET "+route) {
			t.Errorf("there is no route %s", route)
		}
	}
	operations(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, _ *openapi3.Operation) {
		if !slices.Contains(found, method+" "+path) {
			t.Error("there is no such route")
		}
	})
}

// isOpen says whether a route is to be open to all; known is false where there should be no such route.
func isOpen(doc *openapi3.T, method, route string) (open, known bool) {
	if item := doc.Paths.Value(route); item != nil && item.GetOperation(method) != nil {
		return scopeOf(method, route) == "", true
	}
	if method != http.MethodGet {
		return false, false
	}
	if route == "/" || strings.HasPrefix(route, "/dashboard/") {
		return true, true
	}
	open, known = besides[route]
	return open, known
}

// withHead is a method, and HEAD where it is GET.
func withHead(method string) []string {
	if method == http.MethodGet {
		return []string{method, http.MethodHead}
	}
	return []string{method}
}
