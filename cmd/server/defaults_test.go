package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// variableRow is a row of the README's table of variables: their names, and their defaults in the same order.
var variableRow = regexp.MustCompile("(?m)^\\| (`(?:TASKFLOW_|OTEL_)[^|]*) \\| ([^|]*) \\|")

// documented are the variables of the README's table with their defaults, "" where it has a word for none.
func documented(t *testing.T) map[string]string {
	t.Helper()
	words := map[string]string{"none": "", "`PT10S`, nine tenths of the connections": "`PT10S`, ``", "from the listen address": "", "with the API": "", "`text` on a terminal, else `json`; `info`": "`auto`, `info`"}
	found := map[string]string{}
	for _, row := range variableRow.FindAllStringSubmatch(read(t, "README.md"), -1) {
		names, defaults := strings.Split(row[1], ", "), row[2]
		if meant, is := words[defaults]; is {
			defaults = meant
		}
		values := strings.Split(defaults, ", ")
		for i, name := range names {
			value := ""
			if defaults != "" {
				if len(values) != len(names) {
					t.Fatalf("%d names and %d defaults: %s", len(names), len(values), row[0])
				}
				value = strings.Trim(values[i], "`")
			}
			found[strings.Trim(name, "`")] = value
		}
	}
	return found
}

// TestDefaults_AreTheDocumented holds that the README's table has every variable that is read, and no other, each with its
// default.
func TestDefaults_AreTheDocumented(t *testing.T) {
	_, model := parsed(t)
	found := map[string]string{}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			for _, name := range f.Envs {
				found[name] = f.Default
				if f.IsBool() && f.Default == "" {
					found[name] = "false"
				}
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(model.Node)
	table := documented(t)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if told, is := table[name]; !is || told != found[name] {
			t.Errorf("%s: the default is %q, and in the README %q, there at all: %t", name, found[name], told, is)
		}
		delete(table, name)
	}
	for name := range table {
		t.Errorf("the README has %s, which nothing reads", name)
	}
}

// TestDefaults_AreSafe pins the limits that hold where nobody sets any, as the contract has them or as a caller was told:
// whoever raises one has to say so here.
func TestDefaults_AreSafe(t *testing.T) {
	c, _ := parsed(t)
	s := c.Serve
	for what, pair := range map[string][2]any{
		"TASKFLOW_LISTEN":            {s.Listen, "127.0.0.1:8080"},
		"TASKFLOW_AUTH":              {s.Access.Auth.on() || s.Access.AllowUnauthenticated, false},
		"TASKFLOW_MAX_BODY":          {s.MaxBody, byteSize(1 << 20)},
		"TASKFLOW_MAX_STATE":         {s.MaxState, byteSize(256 << 10)},
		"TASKFLOW_TIMER_MAX_HORIZON": {time.Duration(s.TimerMaxHorizon), 366 * 24 * time.Hour},
		"TASKFLOW_IDEMPOTENCY_TTL":   {time.Duration(s.IdempotencyTTL), 24 * time.Hour},
		"TASKFLOW_RETAIN_TERMINAL":   {time.Duration(s.RetainTerminal), time.Duration(0)},
		"TASKFLOW_CORS_ORIGINS":      {len(s.CORSOrigins), 0},
		"TASKFLOW_RATE_LIMIT":        {s.Access.RateLimit, 5000.0},
		"TASKFLOW_RATE_BURST":        {s.Access.RateBurst, 10_000},
		"TASKFLOW_MAX_STREAMS":       {s.Access.MaxStreams, 100},
		"TASKFLOW_MAX_OPEN_FLOWS":    {s.Access.MaxOpenFlows, int64(1_000_000)},
		"TASKFLOW_MAX_ALL_STREAMS":   {s.Connections.allStreams(), 9_000},
		"TASKFLOW_MAX_HEADER":        {s.Connections.MaxHeader, byteSize(64 << 10)},
		"TASKFLOW_MAX_CONNECTIONS":   {s.Connections.MaxConnections, 10_000},
		"TASKFLOW_HEADER_TIMEOUT":    {time.Duration(s.Connections.HeaderTimeout), 10 * time.Second},
		"TASKFLOW_STREAM_TIMEOUT":    {time.Duration(s.Connections.StreamTimeout), 10 * time.Second},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %v where nobody sets it, want %v", what, pair[0], pair[1])
		}
	}
}
