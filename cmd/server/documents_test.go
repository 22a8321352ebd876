package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// root is the folder of the module.
const root = "../.."

// block is a fenced block of a page, and the one that follows it at once or after blank lines, if any. Of a refused one
// the page says that the server refuses every request in it.
type block struct {
	language, text string
	refused        bool
	followedBy     *block
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]*)( refused)?\n(.*?)^```\n(\n*)")

// blocks lists the fenced blocks of a page in order.
func blocks(page string) []block {
	var found []block
	ends := 0
	for _, at := range fenced.FindAllStringSubmatchIndex(page, -1) {
		b := block{language: page[at[2]:at[3]], text: page[at[6]:at[7]], refused: at[4] >= 0}
		if len(found) > 0 && at[0] == ends {
			found[len(found)-1].followedBy = &b
		}
		found, ends = append(found, b), at[1]
	}
	return found
}

// runnable says which blocks a reader can paste into a shell beside a running server: those marked sh, but for the ones
// that begin with make or docker, which build and start things.
func runnable(b block) bool {
	return b.language == "sh" && !strings.HasPrefix(b.text, "make ") && !strings.HasPrefix(b.text, "docker ")
}

// prelude has every command of a page fail where a reader would see it fail: in a pipe, and by a refusal of the server, or
// in a refused block by anything else.
const prelude = `set -euo pipefail; shopt -s inherit_errexit; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
curl() {
  if [ -z "$refused" ]; then command curl --fail-with-body "$@"; return; fi
  command curl --fail-with-body "$@" 2>/dev/null && return 1 || [ $? = 22 ]
}
`

// TestDocuments_ShellBlocksRun runs what a reader is told to type, each page in one shell, against a new server on a new
// database of each kind. Where a block is followed by one marked text or json, its output must be that.
func TestDocuments_ShellBlocksRun(t *testing.T) {
	for _, page := range pages(t) {
		if !slices.ContainsFunc(blocks(read(t, page)), runnable) {
			continue
		}
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			servertest.Databases(t, func(t *testing.T, url string, _ int) {
				out := runBlocks(t, servertest.Start(t, servertest.Options{Database: url}), page)
				if page != "README.md" {
					return
				}
				// What the README says about its commands.
				for _, want := range []string{"\r\nIdempotent-Replayed: true\r\n", `"cost_eur":0.10`, `"status":"finished"`, `"kind":"resumed"`} {
					if !strings.Contains(out, want) {
						t.Errorf("the README's commands do not print %q:\n%s", want, out)
					}
				}
			})
		})
	}
}

// pages lists the documents, by their path from the root of the module.
func pages(t *testing.T) []string {
	found := []string{"README.md", "SECURITY.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		more, err := fs.Glob(os.DirFS(root), pattern)
		if err != nil || len(more) == 0 {
			t.Fatalf("%s: %d pages, %v", pattern, len(more), err)
		}
		found = append(found, more...)
	}
	return found
}

func read(t *testing.T, page string) string {
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// runBlocks runs the blocks of a page in one shell and returns what they print.
func runBlocks(t *testing.T, s *servertest.Server, page string) string {
	all := slices.DeleteFunc(blocks(read(t, page)), func(b block) bool { return !runnable(b) })
	const mark = "\x01" // between the outputs of two blocks
	script := prelude
	for _, b := range all {
		refused := ""
		if b.refused {
			refused = "yes"
		}
		script += "refused=" + refused + "\n" + b.text + "printf '" + `\001` + "'\n"
	}
	script = strings.NewReplacer(
		"http://127.0.0.1:8080", s.URL, "127.0.0.1:8081", servertest.FreeAddress(t), "bin/server", servertest.Binary(t),
	).Replace(script)
	out, err := bash(t, script)
	outputs := strings.Split(out, mark)
	if err != nil {
		t.Fatalf("%s: block %d: %v\n%s\n%s", page, len(outputs), err, all[min(len(outputs), len(all))-1].text, out)
	}
	for i, b := range all {
		if next := b.followedBy; next != nil && (next.language == "text" || next.language == "json") {
			if got, want := comparable(next.language, outputs[i]), comparable(next.language, next.text); got != want {
				t.Errorf("%s: block %d prints\n%s\nand the page says\n%s", page, i+1, got, want)
			}
		}
	}
	return out
}

// comparable is an output without what may differ from the page: JSON may be laid out for readers.
func comparable(language, output string) string {
	output = timeless(output)
	var compact bytes.Buffer
	if language == "json" && json.Compact(&compact, []byte(output)) == nil {
		return compact.String()
	}
	return output
}

// TestDocuments_LinksLead looks for the file behind every link of a page to another document.
func TestDocuments_LinksLead(t *testing.T) {
	for _, page := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(read(t, page), -1) {
			target, _, _ := strings.Cut(link[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), target)); err != nil {
				t.Errorf("%s leads to %s: %v", page, link[1], err)
			}
		}
	}
}

// TestDocuments_IndexHasAll holds that docs/README.md leads to every document but the decisions, which have an index of
// their own.
func TestDocuments_IndexHasAll(t *testing.T) {
	index := read(t, "docs/README.md")
	for _, page := range pages(t) {
		name, inDocs := strings.CutPrefix(page, "docs/")
		if inDocs && name != "README.md" && filepath.Dir(name) != "decisions" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("docs/README.md does not lead to %s", name)
		}
	}
	decisions := read(t, "docs/decisions/README.md")
	for _, page := range pages(t) {
		if name, is := strings.CutPrefix(page, "docs/decisions/0"); is && !strings.Contains(decisions, "](0"+name+")") {
			t.Errorf("docs/decisions/README.md does not lead to 0%s", name)
		}
	}
}

var links = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func bash(t *testing.T, script string, env ...string) (string, error) {
	command := exec.CommandContext(t.Context(), "bash", "-c", script)
	command.Dir, command.Env = root, append(os.Environ(), env...)
	out, err := command.CombinedOutput()
	return string(out), err
}

var changing = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`(?m)^(Date): .*$`), "$1"},
	{regexp.MustCompile(`"seq":\s*\d+`), `"seq":N`},
}

// timeless is an output without what differs from run to run: ids, times, feed numbers, carriage returns.
func timeless(output string) string {
	for _, c := range changing {
		output = c.pattern.ReplaceAllString(output, c.instead)
	}
	return strings.TrimSpace(strings.ReplaceAll(output, "\r", ""))
}

func TestBlocks(t *testing.T) {
	page := "```sh\na\n```\n\n```text\nb\n```\n\nwords\n\n```sh refused\nc\n```\nwords\n```json\nd\n```\n```sh\nmake x\n```\n"
	all := blocks(page)
	if len(all) != 5 || all[0].followedBy == nil || all[0].followedBy.text != "b\n" || all[2].followedBy != nil || all[0].refused || !all[2].refused {
		t.Fatalf("blocks: %+v", all)
	}
	if !runnable(all[0]) || runnable(all[1]) || !runnable(all[2]) || runnable(all[4]) {
		t.Errorf("runnable: %+v", all)
	}
}

// TestExamples runs every script of examples/ on each database.
func TestExamples(t *testing.T) {
	scripts, err := filepath.Glob(root + "/examples/*.sh")
	if err != nil || len(scripts) < 2 {
		t.Fatalf("examples: %v, %v", scripts, err)
	}
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		s := servertest.Start(t, servertest.Options{Database: url})
		for _, script := range scripts {
			t.Run(filepath.Base(script), func(t *testing.T) {
				text, err := filepath.Rel(root, script)
				if err != nil {
					t.Fatal(err)
				}
				out, err := bash(t, "./"+text, "TASKFLOW_URL="+s.URL)
				if err != nil || !strings.Contains(out, "\ndone: ") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	})
}
