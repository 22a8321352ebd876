package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
	"taskflow/internal/sqlite"

	"github.com/jackc/pgx/v5"
)

// root is the folder of the module.
const root = "../.."

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
	t.Parallel()
	for _, page := range pages(t) {
		if !slices.ContainsFunc(blocks(read(t, page)), func(b block) bool { return runs(page, b) }) {
			continue
		}
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			servertest.Databases(t, func(t *testing.T, url string, _ int) {
				s := servertest.Start(t, servertest.Options{Database: url})
				if page == "docs/operations.md" {
					s.Create(t) // or its backups would be of nothing
				}
				out := runBlocks(t, s, url, page)
				for _, want := range prints[page] {
					if !strings.Contains(out, want) {
						t.Errorf("the page's commands do not print %q:\n%s", want, out)
					}
				}
			})
		})
	}
}

// prints is what pages say in words that their commands print.
var prints = map[string][]string{
	"README.md":          {"\r\nIdempotent-Replayed: true\r\n", `"cost_eur":0.10`, `"status":"finished"`, `"kind":"resumed"`},
	"docs/operations.md": {"created|1\n", " kate ", "revoked key "},
}

// pages lists the documents, by their path from the root of the module.
func pages(t *testing.T) []string {
	found := []string{"README.md", "SECURITY.md", "CONTRIBUTING.md", "bench/README.md"}
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

// runBlocks runs the blocks of a page that are for the server's kind of database, in one shell, and returns what they print.
func runBlocks(t *testing.T, s *servertest.Server, url, page string) string {
	kind := "postgres"
	if strings.HasPrefix(url, "sqlite:") {
		kind = "sqlite"
	}
	all := slices.DeleteFunc(blocks(read(t, page)), func(b block) bool {
		return !runs(page, b) || b.database() != "" && b.database() != kind
	})
	const mark = "\x01" // between the outputs of two blocks
	script := prelude
	for _, b := range all {
		refused := ""
		if b.refused() {
			refused = "yes"
		}
		script += "refused=" + refused + "\n" + b.text + "printf '" + `\001` + "'\n"
	}
	script = strings.NewReplacer(
		"http://127.0.0.1:8080", s.URL, "127.0.0.1:8081", servertest.FreeAddress(t), "taskflow_restored", restored(t, url),
	).Replace(script)
	folder, env := besideServer(t, url)
	out, err := bash(t, folder, script, env...)
	printed := strings.Split(out, mark)
	if err != nil {
		t.Fatalf("%s: block %d: %v\n%s\n%s", page, len(printed), err, all[min(len(printed), len(all))-1].text, out)
	}
	for i, b := range all {
		if next := b.followedBy; next != nil && slices.Contains(outputs, next.label) {
			if got, want := comparable(next.label, printed[i]), comparable(next.label, next.text); got != want {
				t.Errorf("%s: block %d prints\n%s\nand the page says\n%s", page, i+1, got, want)
			}
		}
	}
	return out
}

// restored is a name for a database that commands make beside the one at url, on PostgreSQL. It goes with the test.
func restored(t *testing.T, url string) string {
	t.Helper()
	if strings.HasPrefix(url, "sqlite:") {
		return ""
	}
	name := "taskflow_restored_" + strings.ToLower(rand.Text()[:12])
	db := servertest.OpenDatabase(t, url)
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "drop database if exists "+name); err != nil {
			t.Errorf("dropping %s: %v", name, err)
		}
	})
	return name
}

// besideServer is a folder as a reader has it who has typed `make run`, and the variables that its shell has: the program is
// in bin, and the embedded database in data. With PostgreSQL the reader's shell knows where it is.
func besideServer(t *testing.T, url string) (folder string, env []string) {
	t.Helper()
	folder = t.TempDir()
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Dir(servertest.Binary(t)), "bin")
	if path, embedded := strings.CutPrefix(url, "sqlite:"); embedded {
		link(filepath.Dir(path), "data")
		return folder, nil
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	programs := filepath.Dir(pgtest.Program(t, "pg_dump"))
	return folder, []string{
		"TASKFLOW_DATABASE_URL=" + url, "PATH=" + programs + ":" + os.Getenv("PATH"),
		"PGHOST=" + config.Host, fmt.Sprintf("PGPORT=%d", config.Port), "PGUSER=" + config.User, "PGPASSWORD=" + config.Password,
	}
}

// outputs are the labels of blocks that say what the block before prints.
var outputs = []string{"text", "json"}

// comparable is an output without what may differ from the page: JSON may be laid out for readers.
func comparable(language, output string) string {
	output = timeless(output)
	var compact bytes.Buffer
	if language == "json" && json.Compact(&compact, []byte(output)) == nil {
		return compact.String()
	}
	return output
}

// TestDocuments_SchemaVersions holds that whoever has to go back is told the versions that there are.
func TestDocuments_SchemaVersions(t *testing.T) {
	want := fmt.Sprintf("this release is at %d on PostgreSQL and at %d on SQLite", pg.LatestVersion(), sqlite.LatestVersion())
	if page := strings.Join(strings.Fields(read(t, "docs/operations.md")), " "); !strings.Contains(page, want) {
		t.Errorf("docs/operations.md does not say %q", want)
	}
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

// bash runs a script in a folder. What variables of the server's this process has are not meant for it.
func bash(t *testing.T, folder, script string, env ...string) (string, error) {
	kept := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, prefix) })
	command := exec.CommandContext(t.Context(), "bash", "-c", script)
	command.Dir, command.Env = folder, append(kept, env...)
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

// TestExamples runs every script of examples/ on each database.
func TestExamples(t *testing.T) {
	t.Parallel()
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
				out, err := bash(t, root, "./"+text, "BASE_URL="+s.URL)
				if err != nil || !strings.Contains(out, "\ndone: ") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	})
}
