package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// This file measures lists of flows: the first page and one far behind, one request after the other.

// The limits, of the p99 in milliseconds: for lists by what an index serves, and for all others.
const (
	limitIndexed = 50
	limitOther   = 100
)

// list is one row: a list with one or several values of its filter, which requests take in turns.
type list struct {
	name    string
	queries []string // after the question mark
	limit   float64
	owners  string // of the caller's API key; without authentication where empty
}

// listResult is one page of one list.
type listResult struct {
	Name  string  `json:"name"`
	Page  int     `json:"page"`
	Items int     `json:"items"` // on the page, at least
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
	Limit float64 `json:"limit_ms"`
	Met   bool    `json:"met"`
}

// lists are all that is measured, in a database that was filled at the time base.
func lists(base time.Time) []list {
	const fewValues = 5
	each := func(format string, value func(i int) string) (queries []string) {
		for i := range fewValues {
			queries = append(queries, fmt.Sprintf(format, url.QueryEscape(value(i))))
		}
		return queries
	}
	owner := func(i int) string { return ownerOf(i*191 + 7) }
	all := []list{
		{name: "no filter", queries: []string{""}, limit: limitIndexed},
		{name: "owner", queries: each("owner_session_key=%s", owner), limit: limitIndexed},
		{name: "owner prefix, one in a thousand", queries: []string{""}, limit: limitIndexed, owners: ownerOf(77)[:len("org-07:agent-7")] + "*"},
		{name: "owner prefix, one in a hundred", queries: []string{""}, limit: limitIndexed, owners: "org-07:*"},
		{name: "owner prefix, everyone", queries: []string{""}, limit: limitIndexed, owners: "org-*"},
		{name: "controller", queries: each("controller_id=%s", func(i int) string { return controllerOf(i * 9) }), limit: limitIndexed},
		{name: "label", queries: each("label=%s", func(i int) string { return "customer:" + owner(i) }), limit: limitIndexed},
		{name: "label that a third has", queries: []string{"label=env:production"}, limit: limitIndexed},
	}
	for _, status := range []string{"created", "running", "waiting", "finished", "failed", "cancelled"} {
		all = append(all, list{name: "status " + status, queries: []string{"status=" + status}, limit: limitIndexed})
	}
	for _, kind := range []string{"timer", "external_event", "callback", "manual", "any_of"} {
		all = append(all, list{name: "wait kind " + kind, queries: []string{"wait_kind=" + kind}, limit: limitIndexed})
	}
	for _, order := range []string{"created_at", "-created_at", "updated_at", "-updated_at"} {
		all = append(all, list{name: "order " + order, queries: []string{"order=" + order}, limit: limitIndexed})
	}
	middle := url.QueryEscape(base.Add(-24 * time.Hour).Format(time.RFC3339))
	for _, other := range [][2]string{
		{"goal that all have", "q=order"}, {"goal that few have", "q=" + url.QueryEscape("order 777")}, {"goal that none has", "q=nowhere"},
		{"cancel requested", "cancel_requested=true"}, {"mode", "mode=mirrored"},
		{"updated after", "updated_after=" + middle}, {"updated before", "updated_before=" + middle},
		{"created after", "created_after=" + middle}, {"created before", "created_before=" + middle},
		{"owner and status", "status=failed&owner_session_key=" + url.QueryEscape(owner(1))},
		{"controller and status", "status=waiting&controller_id=" + url.QueryEscape(controllerOf(3))},
		{"controller and label", "label=env:production&controller_id=" + url.QueryEscape(controllerOf(3))},
		{"two labels", "label=env:production&label=" + url.QueryEscape("customer:"+owner(2))},
		{"two statuses", "status=failed&status=cancelled"},
		{"order updated_at of a status", "order=-updated_at&status=waiting"},
		{"order updated_at of an owner", "order=-updated_at&owner_session_key=" + url.QueryEscape(owner(3))},
		{"summary", "view=summary"},
	} {
		all = append(all, list{name: other[0], queries: []string{other[1]}, limit: limitOther})
	}
	return append(all, list{name: "order updated_at of an owner prefix", queries: []string{"order=-updated_at"}, limit: limitOther, owners: "org-07:*"})
}

// measureLists measures every list, those of a caller with an API key on a further server of the same database.
func (c *largeCommand) measureLists(ctx context.Context, s *stage, database string, open *process) ([]listResult, error) {
	all := lists(time.Now())
	keys := map[string]string{}
	for _, one := range all {
		if _, made := keys[one.owners]; one.owners == "" || made {
			continue
		}
		key, err := s.makeKey(ctx, database, one.owners)
		if err != nil {
			return nil, err
		}
		keys[one.owners] = key
	}
	keyed, err := s.serve(ctx, database, "TASKFLOW_AUTH=keys") // after the keys, which it knows from the start then
	if err != nil {
		return nil, err
	}
	defer keyed.Stop()
	var results []listResult
	for _, one := range all {
		server := open
		if one.owners != "" {
			server = keyed
		}
		reader := &pageReader{newHTTPConn(strings.TrimPrefix(server.url, "http://"), time.Time{}), keys[one.owners], c.Requests}
		rows, err := reader.measure(ctx, one, c.Page)
		reader.conn.close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
		for _, row := range rows {
			fmt.Fprintf(os.Stderr, "%-32s page %-4d p50 %7.2f ms  p99 %7.2f ms\n", row.Name, row.Page, row.P50, row.P99)
		}
		results = append(results, rows...)
	}
	return results, nil
}

// makeKey makes an API key that may read the flows of owners.
func (s *stage) makeKey(ctx context.Context, database, owners string) (string, error) {
	command := exec.CommandContext(ctx, s.program, "keys", "create", "--name=bench", "--scope=flows:read", "--owner="+owners)
	command.Env = childEnvironment("TASKFLOW_DATABASE_URL=" + database)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	key, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("making a key: %w: %s", err, tail(stderr.String(), 500))
	}
	return strings.TrimSpace(string(key)), nil
}

// pageReader reads pages on one connection.
type pageReader struct {
	conn     *httpConn
	key      string
	requests int
}

// page is what an answer says of itself.
type page struct {
	Items []json.RawMessage `json:"items"`
	Next  *string           `json:"next_cursor"`
}

// measure measures the first page of a list and a later one.
func (r *pageReader) measure(ctx context.Context, one list, later int) ([]listResult, error) {
	first, err := r.time(ctx, one, one.queries, 1)
	if err != nil {
		return nil, err
	}
	reached, number := make([]string, len(one.queries)), later
	for i, query := range one.queries {
		at, err := r.follow(ctx, &reached[i], query, later)
		if err != nil {
			return nil, err
		}
		number = min(number, at)
	}
	if number == 1 {
		return []listResult{first}, nil // the list has no other page
	}
	behind, err := r.time(ctx, one, reached, number)
	return []listResult{first, behind}, err
}

// follow follows the cursors to a page, or to the last one, and leaves its query behind. It returns the page's number.
func (r *pageReader) follow(ctx context.Context, reached *string, query string, page int) (int, error) {
	*reached = query
	for at := 1; ; at++ {
		p, _, err := r.read(ctx, *reached)
		if err != nil || p.Next == nil || at == page {
			return at, err
		}
		*reached = query + "&cursor=" + url.QueryEscape(*p.Next)
	}
}

// time reads the pages in turns, as often as asked for.
func (r *pageReader) time(ctx context.Context, one list, queries []string, number int) (listResult, error) {
	result := listResult{Name: one.name, Page: number, Limit: one.limit, Items: 1 << 30}
	var all []time.Duration
	for i := range r.requests {
		p, took, err := r.read(ctx, queries[i%len(queries)])
		if err != nil {
			return result, err
		}
		all = append(all, took)
		result.Items = min(result.Items, len(p.Items))
	}
	times := newLateness(all)
	result.P50, result.P99, result.Max = times.P50, times.P99, times.Max
	result.Met = result.P99 < one.limit
	return result, nil
}

func (r *pageReader) read(ctx context.Context, query string) (p page, took time.Duration, err error) {
	began := time.Now()
	body, err := r.conn.expect(ctx, request{method: "GET", path: "/flows?" + query, bearer: r.key}, http.StatusOK)
	took = time.Since(began)
	if err != nil {
		return p, took, err
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return p, took, fmt.Errorf("reading a page: %w", err)
	}
	return p, took, nil
}

// listsGrid is the table of lists.
func listsGrid(results []listResult) grid {
	g := grid{head: []string{"list", "page", "items", "p50 ms", "p99 ms", "limit", ""}}
	for _, l := range results {
		g.add(l.Name, fmt.Sprint(l.Page), fmt.Sprint(l.Items), fmt.Sprintf("%.2f", l.P50), fmt.Sprintf("%.2f", l.P99),
			fmt.Sprintf("%.0f", l.Limit), judged(l.Met))
	}
	missed := slices.ContainsFunc(results, func(l listResult) bool { return !l.Met })
	g.add("all of them", "", "", "", "", "", judged(!missed))
	return g
}
