package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// block is a fenced block of a page, and the one that follows it at once or after blank lines, if any.
type block struct {
	label, text string
	followedBy  *block
}

// refused reports whether the page says that the server refuses every request in the block.
func (b *block) refused() bool { return b.label == "sh refused" }

// database is the kind of database that the commands of the block are for, "" for both.
func (b *block) database() string {
	switch b.label {
	case "sh sqlite":
		return "sqlite"
	case "sh postgres":
		return "postgres"
	}
	return ""
}

var (
	fenced = regexp.MustCompile("(?ms)^```([^`\n]*)\n(.*?)^```\n(\n*)")
	// fence is what begins or ends a fenced block for a reader of Markdown, in a list or a quotation too.
	fence = regexp.MustCompile("(?m)^[ \t>*-]*(?:```|~~~)")
)

// blocks lists the fenced blocks of a page in order.
func blocks(page string) []block {
	var found []block
	ends := 0
	for _, at := range fenced.FindAllStringSubmatchIndex(page, -1) {
		b := block{label: page[at[2]:at[3]], text: page[at[4]:at[5]]}
		if len(found) > 0 && at[0] == ends {
			found[len(found)-1].followedBy = &b
		}
		found, ends = append(found, b), at[1]
	}
	return found
}

// labels are all that a block may have, and what makes sure that such a block is right. None is for what nobody looks at.
var labels = map[string]func(t *testing.T, page string, b block){
	"sh": func(t *testing.T, page string, b block) {
		if !runs(page, b) {
			checkCommands(t, page, b.text)
		}
	},
	"sh refused":  isRun,
	"sh sqlite":   isRun,
	"sh postgres": isRun,
	"text":        func(t *testing.T, page string, b block) { t.Errorf("%s: no command prints\n%s", page, b.text) },
	"json": func(t *testing.T, page string, b block) {
		if !json.Valid([]byte(b.text)) {
			t.Errorf("%s: this is no JSON:\n%s", page, b.text)
		}
	},
	"yaml": func(t *testing.T, page string, b block) {
		var content map[string]any
		if err := yaml.Unmarshal([]byte(b.text), &content); err != nil {
			t.Errorf("%s: %v in\n%s", page, err, b.text)
		}
	},
	"promql": func(t *testing.T, page string, b block) {
		for expression := range strings.Lines(b.text) {
			parse(t, page, expression)
		}
	},
	"sql": func(t *testing.T, page string, b block) { // faults.TestChecker_FindsPlantedDamage runs the one that there is
		if page != "docs/operations.md" || !strings.Contains(b.text, "open_flows") {
			t.Errorf("%s: nobody runs\n%s", page, b.text)
		}
	},
	"folders": func(t *testing.T, page string, b block) {
		for line := range strings.Lines(b.text) {
			path, _, _ := strings.Cut(line, " ")
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	},
	"mermaid": func(t *testing.T, page string, b block) {
		kind, _, _ := strings.Cut(b.text, "\n")
		if kind, _, _ = strings.Cut(kind, " "); !slices.Contains([]string{"sequenceDiagram", "stateDiagram-v2", "flowchart"}, kind) {
			t.Errorf("%s: %s is no diagram that there is elsewhere", page, kind)
		}
	},
}

// isRun is for blocks that TestDocuments_ShellBlocksRun runs, whatever they are.
func isRun(*testing.T, string, block) {}

// TestDocuments_EveryBlockIsLookedAt holds that there is no fenced block which could be wrong and no test would know, be it by
// its label or by the way in which it is fenced.
func TestDocuments_EveryBlockIsLookedAt(t *testing.T) {
	for _, page := range pages(t) {
		t.Run(page, func(t *testing.T) {
			text := read(t, page)
			all := blocks(text)
			if n := len(fence.FindAllString(text, -1)); n != 2*len(all) {
				t.Errorf("%d fences, and the tests see %d blocks", n, len(all))
			}
			compared := false // with what the block before prints
			for _, b := range all {
				check := labels[b.label]
				switch {
				case check == nil:
					t.Errorf("no test knows what to do with a block that is marked %q:\n%s", b.label, b.text)
				case !compared:
					check(t, page, b)
				}
				compared = b.followedBy != nil && runs(page, b) && slices.Contains(outputs, b.followedBy.label)
			}
		})
	}
}

func TestBlocks(t *testing.T) {
	page := "```sh\na\n```\n\n```text\nb\n```\n\nwords\n\n```sh refused\nc\n```\nwords\n```json\nd\n```\n```sh sqlite\ne\n```\n```\nf\n```\n"
	all := blocks(page)
	if len(all) != 6 || all[0].followedBy == nil || all[0].followedBy.text != "b\n" || all[2].followedBy != nil || all[0].refused() || !all[2].refused() {
		t.Fatalf("blocks: %+v", all)
	}
	if all[0].database() != "" || all[4].database() != "sqlite" || all[5].label != "" || labels[all[5].label] != nil {
		t.Errorf("labels: %+v", all)
	}
	for i, want := range []bool{true, false, true, false, true, false} {
		if runs("page.md", all[i]) != want {
			t.Errorf("block %d is run: %v, want %v", i, !want, want)
		}
	}
	if n := len(fence.FindAllString(page+"  ```sh\n> ~~~\n- ```sh\n", -1)); n != 15 {
		t.Errorf("%d fences, want 15", n)
	}
}
