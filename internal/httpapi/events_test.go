package httpapi_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/flows"
)

// The contract's table of what the events of each kind have in their payload.
var (
	eventRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\|([^|]*)\\|")
	member   = regexp.MustCompile("(\\*?)`(\\w+)`")
	// recorded is an event of a transcript.
	recorded = regexp.MustCompile(`(?m)^event \d+ (\w+) by (\S+) at \S+ (\{.*\})$`)
)

// TestEventPayloads_AreTheDocumented holds that the contract's table has the kinds of events that there are, each with the
// members that it has in the transcripts of package flows: those in italics in some of them, the others in all.
func TestEventPayloads_AreTheDocumented(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	described := doc.Components.Schemas["Event"].Value.Description
	optional := map[string]map[string]bool{} // by kind and member
	for _, row := range eventRow.FindAllStringSubmatch(described, -1) {
		optional[row[1]] = map[string]bool{}
		for _, m := range member.FindAllStringSubmatch(row[2], -1) {
			optional[row[1]][m[2]] = m[1] != ""
		}
	}
	kinds := []string{}
	for _, kind := range doc.Components.Schemas["EventKind"].Value.Enum {
		kinds = append(kinds, kind.(string))
	}
	if slices.Sort(kinds); !slices.Equal(slices.Sorted(maps.Keys(optional)), kinds) {
		t.Errorf("the table has %v, and there are %v", slices.Sorted(maps.Keys(optional)), kinds)
	}
	missing := map[string]bool{} // what no transcript has yet
	for kind, members := range optional {
		missing[kind] = true
		for name := range members {
			missing[kind+"."+name] = true
		}
	}
	for _, event := range recorded.FindAllStringSubmatch(transcripts(t), -1) {
		kind, actor := event[1], event[2]
		var payload map[string]json.RawMessage
		if err := json.Unmarshal([]byte(event[3]), &payload); err != nil {
			t.Fatalf("%s: %v", event[0], err)
		}
		delete(missing, kind)
		for name := range payload {
			if _, known := optional[kind][name]; !known {
				t.Errorf("the table does not have %s of %s", name, event[0])
			}
			delete(missing, kind+"."+name)
		}
		for name, may := range optional[kind] {
			if _, is := payload[name]; !is && !may {
				t.Errorf("the table has %s in every %s, and not so %s", name, kind, event[0])
			}
		}
		if actor != "kate" && !strings.Contains(described, "`"+actor+"`") {
			t.Errorf("nothing says who %s is", actor)
		}
	}
	if len(missing) > 0 {
		t.Errorf("no transcript has %v", slices.Sorted(maps.Keys(missing)))
	}
	for _, actor := range []string{"anonymous", flows.ActorTimer, flows.ActorCallback, flows.ActorExternalEvent} {
		if !strings.Contains(described, "`"+actor+"`") {
			t.Errorf("nothing says who %s is", actor)
		}
	}
}

// transcripts are those of package flows, which its tests hold against what Decide does.
func transcripts(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("../flows/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	all := ""
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all += string(text)
	}
	return all
}
