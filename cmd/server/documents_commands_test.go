package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// notRun are the shell blocks that no test runs, by how they begin, and why not. Each of their commands is looked at.
var notRun = []struct{ page, begins, why string }{
	{"README.md", "make run\n", "it serves until it is stopped"},
	{"README.md", "make test\n", "it is what runs this test"},
	{"README.md", "docker compose up", "it makes an image and starts containers"},
	{"docs/operations.md", "TASKFLOW_DATABASE_URL='postgres://taskflow:secret@db1", "there are no hosts of these names"},
	{"docs/performance.md", "make bench-goals ", "it measures for minutes"},
	{"docs/performance.md", "make bench-growth ", "it measures for minutes"},
	{"docs/performance.md", "make build && bin/server &", "it measures for a minute, and perf is not everywhere"},
	{"bench/README.md", "make bench ", "it measures for minutes"},
}

// runs reports whether TestDocuments_ShellBlocksRun runs a block: every one for a shell that is not listed above.
func runs(page string, b block) bool {
	if b.label != "sh" {
		return b.refused() || b.database() != ""
	}
	for _, n := range notRun {
		if n.page == page && strings.HasPrefix(b.text, n.begins) {
			return false
		}
	}
	return true
}

// TestDocuments_WhatIsNotRunIsThere holds that the list above has nothing which the pages no longer have.
func TestDocuments_WhatIsNotRunIsThere(t *testing.T) {
	for _, n := range notRun {
		if !strings.Contains(read(t, n.page), "\n```sh\n"+n.begins) {
			t.Errorf("%s has no block that begins with %q", n.page, n.begins)
		}
	}
}

var (
	comment = regexp.MustCompile(`(?m)\s+#.*$`)
	between = regexp.MustCompile(`\s*(?:&&|&?\n|&$)\s*`) // two commands
	setting = regexp.MustCompile(`^(` + prefix + `\w+)='([^']*)'\s+`)
)

// checkCommands looks at the commands of a block without running them.
func checkCommands(t *testing.T, page, text string) {
	t.Helper()
	for _, command := range between.Split(comment.ReplaceAllString(text, ""), -1) {
		if command == "" {
			continue
		}
		words := strings.Fields(command)
		switch name, args := words[0], words[1:]; {
		case name == "make":
			// A target that is only said to be phony is no error to make.
			if out, err := bash(t, root, "make -n "+strings.Join(args, " "), "LC_ALL=C"); err != nil || strings.Contains(out, "Nothing to be done") {
				t.Errorf("%s: %s: %v\n%s", page, command, err, out)
			}
		case strings.HasPrefix(command, "docker compose up"):
			checkCompose(t)
		case strings.HasPrefix(command, inContainer):
			checkServer(t, page, "bin/server "+strings.TrimPrefix(command, inContainer))
		case setting.MatchString(command) || name == "bin/server":
			checkServer(t, page, command)
		case strings.HasPrefix(command, "go run ./bench "): // bench.TestDocuments looks at what follows
		case strings.HasPrefix(command, "go test "):
			checkGoTest(t, page, args[1:])
		case strings.HasPrefix(command, "perf ") || strings.HasPrefix(command, "go tool pprof "): // others' programs
		default:
			t.Errorf("%s: no test knows what to do with %q", page, command)
		}
	}
}

// inContainer begins a command of the server's program in the container that compose.yaml starts.
const inContainer = "docker compose exec server /server "

// checkServer parses a command that starts a server, with the variables that it sets.
func checkServer(t *testing.T, page, command string) {
	t.Helper()
	variables := map[string]string{}
	rest := command
	for found := setting.FindStringSubmatch(rest); found != nil; found = setting.FindStringSubmatch(rest) {
		variables[found[1]], rest = found[2], rest[len(found[0]):]
	}
	args, is := strings.CutPrefix(rest, "bin/server")
	if err := configures(t, variables, strings.Fields(args)...); err != nil || !is {
		t.Errorf("%s: %s: %v", page, command, err)
	}
}

// configures reports what a server has against its variables and its arguments before it does anything.
func configures(t *testing.T, variables map[string]string, args ...string) error {
	t.Helper()
	var environment []string
	for name, value := range variables {
		t.Setenv(name, value)
		environment = append(environment, name+"="+value)
	}
	var c cli
	parser, err := kong.New(&c, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkEnvironment(environment, knownVariables(parser.Model)); err != nil {
		return err
	}
	parsed, err := parser.Parse(args)
	if err != nil || parsed.Selected().Name != "serve" {
		return err
	}
	return checkListen(c.Serve.Listen, c.Serve.Access.Auth, c.Serve.Access.AllowUnauthenticated)
}

// checkGoTest looks for the package, and for the benchmark.
func checkGoTest(t *testing.T, page string, args []string) {
	t.Helper()
	name := ""
	for i, arg := range args {
		if arg == "-bench" {
			name = args[i+1]
		}
	}
	files, err := filepath.Glob(filepath.Join(root, args[0], "*_test.go"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func Benchmark"+name) {
			return
		}
	}
	t.Errorf("%s: %s has no benchmark %q: %v", page, args[0], name, err)
}

var (
	imageSets = regexp.MustCompile(`(?m)^ENV (\w+)=(\S+)$`)
	imageRuns = regexp.MustCompile(`CMD \["/server", "([^"]*)"\]`)
)

// checkCompose holds that compose.yaml starts a server with what this one takes, in the image that the Dockerfile makes.
func checkCompose(t *testing.T) {
	t.Helper()
	var file struct {
		Services map[string]struct {
			Build       string
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	server := file.Services["server"]
	image := read(t, filepath.Join(server.Build, "Dockerfile"))
	for _, found := range imageSets.FindAllStringSubmatch(image, -1) {
		if _, set := server.Environment[found[1]]; !set {
			server.Environment[found[1]] = found[2]
		}
	}
	if err := configures(t, server.Environment); err != nil || server.Environment["TASKFLOW_DATABASE_URL"] == "" {
		t.Errorf("compose.yaml: the server would not start with %v: %v", server.Environment, err)
	}
	if _, anybody := server.Environment["TASKFLOW_ALLOW_UNAUTHENTICATED"]; anybody {
		t.Error("compose.yaml: a page that resolves to this machine could do whatever a caller may")
	}
	for _, found := range imageRuns.FindAllStringSubmatch(image, -1) {
		if err := configures(t, nil, found[1]); err != nil {
			t.Errorf("Dockerfile: %s: %v", found[0], err)
		}
	}
	if _, err := exec.Command("go", "list", root+"/cmd/server").Output(); err != nil || !strings.Contains(image, " ./cmd/server ") {
		t.Errorf("the Dockerfile does not build ./cmd/server: %v", err)
	}
}
