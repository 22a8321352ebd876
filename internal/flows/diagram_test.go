package flows_test

import (
	"os"
	"strings"
	"testing"

	"taskflow/internal/flows"
)

func TestDiagram(t *testing.T) {
	const want = `stateDiagram-v2
    [*] --> created
    created --> running: start
    created --> cancelled: cancel
    running --> waiting: wait
    running --> finished: finish
    running --> failed: fail
    running --> cancelled: cancel
    waiting --> running: resume
    waiting --> failed: fail
    waiting --> cancelled: cancel
    finished --> [*]
    failed --> [*]
    cancelled --> [*]
`
	if got := flows.Diagram(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestDiagramIsOnThePage holds that the page shows the table as it is; go test -update puts it there.
func TestDiagramIsOnThePage(t *testing.T) {
	const page, begins, ends = "../../docs/ARCHITECTURE.md", "<!-- diagram: flows.Diagram -->\n", "<!-- /diagram -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), begins)
	shown, after, ended := strings.Cut(rest, ends)
	if !begun || !ended {
		t.Fatalf("%s has no %q and %q", page, begins, ends)
	}
	want := "```mermaid\n" + flows.Diagram() + "```\n"
	if shown == want {
		return
	}
	if !*update {
		t.Fatalf("%s shows another diagram (-update writes it):\n%s", page, shown)
	}
	if err := os.WriteFile(page, []byte(before+begins+want+ends+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
