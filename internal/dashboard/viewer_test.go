package dashboard_test

import (
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// try sends a request from the contract's viewer, with what the viewer itself fills in, and returns what it shows of the
// answer.
func (p *tab) try(operation string) string {
	p.t.Helper()
	block := "#operations-" + operation
	p.click(block+" .opblock-summary-control", "")
	p.click(block+" .try-out__btn", "Try it out")
	p.click(block+" .execute", "Execute")
	p.awaitText(block+" .live-responses-table .response-col_status", "")
	return eval[string](p, "text("+quote(block+" .live-responses-table")+")")
}

// TestViewer_SendsRequests tries the calls of /docs out where the server asks for keys: the page may call its own origin,
// sends the key that it was given, and fills in nothing that makes a call fail.
func TestViewer_SendsRequests(t *testing.T) {
	t.Parallel()
	o := onSQLite(t)
	o.Args = []string{"--auth", "keys"}
	s := servertest.Start(t, o)
	made := servertest.Run(t, servertest.Options{Database: o.Database}, "keys", "create", "--name", "kate", "--scope", "flows:read", "--scope", "flows:write", "--owner", "*")
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("docs")
	if got := p.try("service-getStats"); !strings.Contains(got, "unauthenticated") {
		t.Errorf("without a key: %s", got)
	}
	p.click(".auth-wrapper .authorize", "Authorize")
	p.fill(".auth-container input", strings.TrimSpace(made.Stdout))
	p.click(".auth-container .authorize", "Authorize")
	p.click(".auth-container .btn-done", "Close")
	for _, call := range []struct{ operation, want string }{
		{"flows-createFlow", `"status": "created"`}, {"flows-listFlows", `"status": "created"`}, {"trail-listEvents", `"actor": "kate"`},
	} {
		if got := p.try(call.operation); !strings.Contains(got, call.want) {
			t.Errorf("%s: %s", call.operation, got)
		}
	}
}
