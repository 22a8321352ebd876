package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"taskflow/internal/pg/pgtest"

	"github.com/jackc/pgx/v5"
)

// This file measures the live feed on one private PostgreSQL: how long after its commit an event is with a reader, on the
// server that committed it and on another, and what open streams take of a server's memory.

// feedCommand is `bench feed`.
type feedCommand struct {
	Server   string        `help:"The built server." default:"bin/server" placeholder:"FILE"`
	Streams  int           `help:"Streams that are open on one server, each following one flow." default:"1000"`
	Rate     int           `help:"Changes a second." default:"200"`
	Duration time.Duration `help:"How long each measurement takes." default:"10s"`
	JSON     string        `help:"Write the result to this file as JSON, - for standard output." name:"json" placeholder:"FILE"`
}

// feedReport is the outcome, as --json writes it.
type feedReport struct {
	At          time.Time    `json:"at"`
	Environment environment  `json:"environment"`
	LoadBefore  string       `json:"load_average_before"`
	LoadAfter   string       `json:"load_average_after"`
	Results     []feedResult `json:"results"`
}

// feedResult is one line of the table: from an event's commit, by the database's clock, to its last byte at the reader.
type feedResult struct {
	Streams int      `json:"streams"`
	Changes int      `json:"changes"`
	Same    lateness `json:"same_server_ms"`
	Other   lateness `json:"other_server_ms"`
	// RSS is the memory of the server with the streams, at the end and at its peak.
	RSS  float64 `json:"rss_mb"`
	Peak float64 `json:"peak_rss_mb"`
}

// feedFlows is how many flows are changed; the streams are spread over them.
const feedFlows = 100

// Run measures with no other streams, and with as many as asked for.
func (c *feedCommand) Run(ctx context.Context) (err error) {
	if c.Streams < 0 || c.Rate < 1 || c.Duration <= 0 {
		return errors.New("rate and duration must be positive, streams must not be negative")
	}
	folder, err := os.MkdirTemp("", "taskflow-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	cluster, err := pgtest.StartCluster(ctx, pgtest.Options{Settings: map[string]string{
		"shared_buffers": "128MB", "track_commit_timestamp": "on", // by which latency is measured
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	report := feedReport{At: time.Now().UTC(), LoadBefore: loadAverage()}
	if report.Environment, err = inspect(ctx, cluster.URL("postgres"), folder); err != nil {
		return err
	}
	for _, streams := range []int{0, c.Streams} {
		url, err := createDatabase(ctx, cluster, fmt.Sprintf("feed%d", len(report.Results)))
		if err != nil {
			return err
		}
		result, err := c.measure(ctx, url, streams)
		if err != nil {
			return fmt.Errorf("with %d streams: %w", streams, err)
		}
		report.Results = append(report.Results, result)
	}
	report.LoadAfter = loadAverage()
	if c.JSON == "-" {
		return writeJSON(os.Stdout, report)
	}
	writeFeed(os.Stdout, report)
	if c.JSON != "" {
		return writeJSONFile(c.JSON, report)
	}
	return nil
}

func writeFeed(w io.Writer, r feedReport) {
	fmt.Fprintf(w, "%s\nload average before %s, after %s\n", r.Environment.line(), r.LoadBefore, r.LoadAfter)
	for _, one := range r.Results {
		fmt.Fprintf(w, "\n%d other streams, %d changes\ncommit to reader, same server:  %v\ncommit to reader, other server: %v\nmemory of the server: %.0f MB, %.0f MB at its peak\n",
			one.Streams, one.Changes, one.Same, one.Other, one.RSS, one.Peak)
	}
}

func (c *feedCommand) measure(ctx context.Context, databaseURL string, streams int) (result feedResult, err error) {
	starter := waitsCommand{Server: c.Server}
	var servers [2]*process
	for i := range servers {
		if servers[i], err = starter.startReplica(ctx, databaseURL, ""); err != nil {
			return result, err
		}
		defer servers[i].Stop()
	}
	writer := newHTTPConn(strings.TrimPrefix(servers[0].url, "http://"), time.Time{})
	defer writer.close()
	flows := make([]string, feedFlows)
	for i := range flows {
		body, err := writer.expect(ctx, request{method: "POST", path: "/flows", body: createBody}, http.StatusCreated)
		if err != nil {
			return result, err
		}
		if flows[i], err = flowID(body); err != nil {
			return result, err
		}
	}
	reading, stop := context.WithCancel(ctx)
	readers := feedReaders{client: &http.Client{Transport: &http.Transport{}}}
	defer func() { stop(); readers.work.Wait() }()
	same, err := readers.open(reading, servers[0].url+"/events")
	if err != nil {
		return result, err
	}
	other, err := readers.open(reading, servers[1].url+"/events")
	if err != nil {
		return result, err
	}
	for i := range streams {
		if _, err := readers.open(reading, servers[0].url+"/events?flow_id="+flows[i%len(flows)]); err != nil {
			return result, fmt.Errorf("stream %d: %w", i, err)
		}
	}
	result.Streams = streams
	if result.Changes, err = c.change(ctx, writer, flows); err != nil {
		return result, errors.Join(err, servers[0].complaint())
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return result, err
	}
	if result.RSS, result.Peak, err = memoryOf(servers[0].pid); err != nil {
		return result, err
	}
	stop()
	readers.work.Wait()
	committed, err := commitTimes(ctx, databaseURL)
	if err != nil {
		return result, err
	}
	if result.Same, err = same.lateness(committed, result.Changes); err != nil {
		return result, err
	}
	result.Other, err = other.lateness(committed, result.Changes)
	return result, err
}

// change makes changes at the rate asked for, for as long as asked for.
func (c *feedCommand) change(ctx context.Context, conn *httpConn, flows []string) (n int, err error) {
	tick := time.NewTicker(time.Second / time.Duration(c.Rate))
	defer tick.Stop()
	for end := time.Now().Add(c.Duration); time.Now().Before(end); n++ {
		r := request{method: "POST", path: "/flows/" + flows[n%len(flows)] + "/state", body: appendStateBody(nil, n)}
		if _, err := conn.expect(ctx, r, http.StatusOK); err != nil {
			return n, err
		}
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-tick.C:
		}
	}
	return n, nil
}

// feedReaders owns a goroutine for each open stream; they end with their context.
type feedReaders struct {
	client *http.Client
	work   sync.WaitGroup
}

// feedReader notes when each event came. It is to be read when the readers have ended.
type feedReader struct{ came map[int64]time.Time }

// open returns when the server has begun the stream.
func (r *feedReaders) open(ctx context.Context, url string) (*feedReader, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%w: %s answered with %d", errMalformed, url, response.StatusCode)
	}
	reader := &feedReader{came: map[int64]time.Time{}}
	r.work.Go(func() {
		defer response.Body.Close()
		reader.read(response.Body)
	})
	return reader, nil
}

// read notes events until the stream ends.
func (r *feedReader) read(body io.Reader) {
	lines := bufio.NewScanner(body)
	var seq int64
	for lines.Scan() {
		switch line := lines.Bytes(); {
		case bytes.HasPrefix(line, []byte("id: ")):
			seq, _ = strconv.ParseInt(string(line[4:]), 10, 64)
		case bytes.HasPrefix(line, []byte("data: ")):
			r.came[seq] = time.Now()
		}
	}
}

// lateness compares with when the events were committed. Each of the changes must have come.
func (r *feedReader) lateness(committed map[int64]time.Time, changes int) (lateness, error) {
	if len(r.came) != changes {
		return lateness{}, fmt.Errorf("a reader has %d of %d events", len(r.came), changes)
	}
	var all []time.Duration
	for seq, at := range r.came {
		all = append(all, at.Sub(committed[seq]))
	}
	return newLateness(all), nil
}

// commitTimes are the times at which events were committed, by seq.
func commitTimes(ctx context.Context, databaseURL string) (map[int64]time.Time, error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `select seq, pg_xact_commit_timestamp(xmin) from events`)
	if err != nil {
		return nil, err
	}
	times := map[int64]time.Time{}
	var seq int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&seq, &at}, func() error { times[seq] = at; return nil })
	return times, err
}

// memoryOf is the memory of a process that is resident, now and at its peak, in megabytes, from /proc.
func memoryOf(pid int) (now, peak float64, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		name, value, _ := strings.Cut(line, ":")
		kilobytes, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			now = kilobytes / 1000
		case "VmHWM":
			peak = kilobytes / 1000
		}
	}
	return now, peak, nil
}
