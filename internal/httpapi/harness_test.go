package httpapi_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/auth/authtest"
	"taskflow/internal/dashboard"
	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/httpapi"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The limits of the servers under test, unless a test sets others.
const (
	maxBody  = 1 << 20
	maxState = 256 << 10
	horizon  = 366 * 24 * time.Hour
)

// setup is what a test may change about the server it runs against.
type setup struct {
	options httpapi.Options
	engine  engine.Options
	sqlite  sqlite.Options
	// faults puts a store between the server and its database that fails on demand: client.faulty.
	faults bool
	// withoutKey leaves the database without a key for callback URLs.
	withoutKey bool
	// reads, where it is set, is asked before every read, and its error is the read's.
	reads func(context.Context) error
	// server, where it is set, changes the HTTP server before it starts.
	server func(*http.Server)
	// countReads counts the reads of this server: client.reads.
	countReads bool
	// callers are the API keys that there are, by name; with none, nobody has to say who they are.
	callers map[string]caller
	// keyReads, where it is set, is asked before the callers' keys are read, and its error is the reading's.
	keyReads func() error
	// issuer, where it is set, has its tokens taken too.
	issuer *authtest.Issuer
}

// caller is what an API key is for.
type caller struct {
	owners flows.Owners
	scopes []auth.Scope // all of them where none is named
}

// eachStore runs a test against a server of its own on each of the databases.
func eachStore(t *testing.T, test func(t *testing.T, api *client), changes ...func(*setup)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, serveSQLite(t, changes...))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, servePostgres(t, changes...))
	})
}

// servePostgres starts a server on a PostgreSQL database of its own.
func servePostgres(t testing.TB, changes ...func(*setup)) *client {
	t.Helper()
	return openPostgres(t, pgtest.Database(t), changes...)
}

// openPostgres starts a server on the database at an address.
func openPostgres(t testing.TB, address string, changes ...func(*setup)) *client {
	t.Helper()
	s := newSetup(changes)
	db, err := pg.Open(t.Context(), address, pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	setDefault(&s.options.SchemaVersion, pg.LatestVersion())
	return serve(t, db, s)
}

// serveSQLite starts a server on SQLite alone, for what no database has a say in.
func serveSQLite(t testing.TB, changes ...func(*setup)) *client {
	t.Helper()
	return openSQLite(t, sqlitetest.File(t), changes...)
}

// openSQLite starts a server on the file at path.
func openSQLite(t testing.TB, path string, changes ...func(*setup)) *client {
	t.Helper()
	s := newSetup(changes)
	db, err := sqlite.Open(t.Context(), path, s.sqlite)
	if err != nil {
		t.Fatal(err)
	}
	setDefault(&s.options.SchemaVersion, sqlite.LatestVersion())
	return serve(t, db, s)
}

func newSetup(changes []func(*setup)) setup {
	s := setup{options: httpapi.Options{MaxBody: maxBody, MaxState: maxState, RequestTimeout: time.Minute, MaxStreams: 100, StreamPatience: 10 * time.Second, TimerHorizon: horizon}}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func setDefault(field *int64, value int64) {
	if *field == 0 {
		*field = value
	}
}

// serve starts a server over a store, and stops both when the test ends.
func serve(t testing.TB, db store.Store, s setup) *client {
	t.Helper()
	c := build(t, db, s)
	server := httptest.NewUnstartedServer(c.api)
	if s.server != nil {
		s.server(server.Config)
	}
	server.Start()
	t.Cleanup(server.Close)
	c.url, c.http = server.URL, noRedirects(server.Client())
	return c
}

// dashboardPages are made once: they take longer to compress than most tests to run.
var dashboardPages = sync.OnceValues(dashboard.Pages)

// build puts a server together over a store, and closes both when the test ends. It does not listen yet.
func build(t testing.TB, db store.Store, s setup) *client {
	t.Helper()
	logged := &logBuffer{}
	logger := slog.New(slog.NewTextHandler(logged, nil))
	s.options.Logger, s.engine.Logger = logger, logger
	pages, err := dashboardPages()
	if err != nil {
		t.Fatal(err)
	}
	s.options.Pages = pages
	closeStore := func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	}
	t.Cleanup(closeStore)
	var faulty *storetest.Faulty
	if s.faults {
		faulty = storetest.NewFaulty(db)
		db = faulty
	}
	reader := store.Reader(db)
	counter := new(atomic.Int64)
	if s.countReads {
		s.reads = func(context.Context) error { counter.Add(1); return nil }
	}
	if s.reads != nil {
		reader = faultyReader{reader, s.reads}
	}
	changes := engine.New(db, s.engine)
	stop := func() {
		if err := changes.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("closing the engine: %v", err)
		}
	}
	t.Cleanup(stop)
	if !s.withoutKey {
		if err := db.AddCallbackKey(t.Context(), httpapi.NewCallbackKey(time.Now()), true); err != nil {
			t.Fatal(err)
		}
	}
	gate, keys := s.gate(t, db)
	s.options.Gate = gate
	api, err := httpapi.New(t.Context(), changes, reader, s.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return &client{
		t: t, api: api, store: db, faulty: faulty, stopEngine: stop, closeStore: closeStore, logged: logged, reads: counter, keys: keys,
	}
}

// gate is what tells this setup's callers apart, and their keys.
func (s *setup) gate(t testing.TB, db store.Store) (*auth.Gate, map[string]string) {
	t.Helper()
	var keys *auth.Keys
	var tokens *auth.Tokens
	texts := map[string]string{}
	for name, c := range s.callers {
		spec := auth.KeySpec{Name: name, Scopes: c.scopes, Owners: c.owners}
		if len(spec.Scopes) == 0 {
			spec.Scopes = auth.Scopes()
		}
		key, text, err := auth.NewKey(spec, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := db.AddAPIKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		texts[name] = text
	}
	log := s.options.Logger
	if len(s.callers) > 0 {
		keys = auth.NewKeys(faultyKeys{db, s.keyReads}, log)
		t.Cleanup(func() { _ = keys.Close(context.Background()) })
	}
	if s.issuer != nil {
		tokens = auth.NewTokens(t.Context(), auth.TokenOptions{
			Issuer: s.issuer.URL, Audience: authtest.Audience, OwnerClaim: auth.DefaultOwnerClaim, Logger: log,
		})
		t.Cleanup(tokens.Close)
	}
	return auth.NewGate(keys, tokens), texts
}

// faultyKeys fails to read keys on demand.
type faultyKeys struct {
	auth.KeyStore
	fail func() error // nil where it never does
}

func (k faultyKeys) APIKeys(ctx context.Context) ([]store.APIKey, error) {
	if k.fail != nil {
		if err := k.fail(); err != nil {
			return nil, err
		}
	}
	return k.KeyStore.APIKeys(ctx)
}

// noRedirects makes a client show redirects instead of following them.
func noRedirects(c *http.Client) *http.Client {
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// logBuffer is a log that a test can read while the server writes it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// client calls one server and checks every answer against the contract.
type client struct {
	t    testing.TB
	url  string
	http *http.Client

	api    *httpapi.Server
	pipes  *pipes // where inBubble made the client
	store  store.Store
	faulty *storetest.Faulty
	// stopEngine and closeStore may be called before the test's end, which calls them again.
	stopEngine, closeStore func()
	logged                 *logBuffer
	reads                  *atomic.Int64     // where setup.countReads is set
	keys                   map[string]string // of setup.callers, by name
	credentials            string            // the Authorization header, "" for none
}

// as is the client of one of setup.callers.
func (c *client) as(name string) *client {
	c.t.Helper()
	if c.keys[name] == "" {
		c.t.Fatalf("no caller %s", name)
	}
	return c.with("Bearer " + c.keys[name])
}

// with is the client with an Authorization header.
func (c *client) with(credentials string) *client {
	other := *c
	other.credentials = credentials
	return &other
}

// in is the client for a subtest.
func (c *client) in(t testing.TB) *client {
	inner := *c
	inner.t = t
	return &inner
}

// do sends a request and reads its answer. Headers are lines like "If-Match: \"3\""; a line that begins with "-" leaves
// a header out that would be sent by itself. A body is sent as application/json unless a header says otherwise.
func (c *client) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	a, err := c.try(context.Background(), method, path, body, headers...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// try is do for a request that may get no answer at all.
func (c *client) try(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	c.t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, content)
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.credentials != "" {
		request.Header.Set("Authorization", c.credentials)
	}
	given := map[string]bool{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ":")
		if left, out := strings.CutPrefix(name, "-"); out {
			request.Header.Del(left)
			continue
		}
		if name = http.CanonicalHeaderKey(name); !given[name] {
			request.Header.Del(name)
		}
		given[name] = true
		request.Header.Add(name, strings.TrimSpace(value))
	}
	request.Host = request.Header.Get("Host") // "" is the URL's
	response, err := c.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{t: c.t, request: request, status: response.StatusCode, header: response.Header, body: string(read)}
	a.checkContract()
	a.checkSecurity()
	return a, nil
}

func (c *client) get(path string, headers ...string) answer {
	c.t.Helper()
	return c.do(http.MethodGet, path, "", headers...)
}

func (c *client) post(path, body string, headers ...string) answer {
	c.t.Helper()
	return c.do(http.MethodPost, path, body, headers...)
}

func (c *client) put(path, body string, headers ...string) answer {
	c.t.Helper()
	return c.do(http.MethodPut, path, body, headers...)
}

func (c *client) erase(path string, headers ...string) answer {
	c.t.Helper()
	return c.do(http.MethodDelete, path, "", headers...)
}

// snapshot is everything the service shows: every flow with its steps, every event, and the counts.
func (c *client) snapshot() string {
	c.t.Helper()
	list := c.get("/flows?limit=500").want(http.StatusOK)
	all := []string{list.body, c.get("/events?limit=500").want(http.StatusOK).body, c.get("/stats").want(http.StatusOK).body}
	for _, f := range list.flows() {
		all = append(all, c.get("/flows/"+f.ID+"/steps?limit=500").want(http.StatusOK).body)
	}
	return strings.Join(all, "\n")
}

// refused sends a request that must be refused, and checks that it changed nothing at all.
func (c *client) refused(status int, slug, method, path, body string, headers ...string) problem {
	c.t.Helper()
	before := c.snapshot()
	p := c.do(method, path, body, headers...).problem(status, slug)
	wantText(c.t, "what is recorded after "+method+" "+path+" was refused", c.snapshot(), before)
	return p
}
