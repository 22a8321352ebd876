package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var told = regexp.MustCompile("(?:go|\\$\\(GO\\)) run \\./bench ([^#&`\n]*)")

// TestDocuments_CommandsAreKnown holds that whoever is told to run this program, and how, is told right: it takes every command
// line of a document, and of the Makefile.
func TestDocuments_CommandsAreKnown(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, "README.md", "../README.md", "../Makefile") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range told.FindAllStringSubmatch(string(text), -1) {
			found++
			parser, err := kong.New(&commands{}, kong.Vars{"scenarios": scenarioNames()}, kong.Exit(func(int) {}), kong.Writers(io.Discard, io.Discard))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(strings.Fields(line[1])); err != nil {
				t.Errorf("%s: go run ./bench %s: %v", page, line[1], err)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands were found", found)
	}
}
