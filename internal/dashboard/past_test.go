package dashboard_test

import (
	"testing"

	"taskflow/internal/servertest"
)

// TestPast_IsUndoneFromTheFeed undoes a trail from the numbers of today: the plot's past is what it was.
func TestPast_IsUndoneFromTheFeed(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/")
	// Newest first, a second apart: of flow b only its end is in the window, which the clock brought.
	got := eval[string](p, `import("/dashboard/history.js").then(({ History, reconstruct }) => {
		const events = [["finished", "a"], ["failed", "b", "timer"], ["resumed", "a"], ["waiting", "a"], ["started", "a"], ["created", "a"]]
			.map(([kind, flow_id, actor = "kate"], i, all) => ({ seq: all.length - i, kind, flow_id, actor, at: new Date((all.length - i) * 1000).toISOString() }));
		const now = { created: 0, running: 0, waiting: 0, finished: 1, failed: 1, cancelled: 0 };
		const past = new History(3_600_000);
		past.begin(reconstruct(now, events, 7000, true));
		const series = past.series(7000, 7000, 8);
		return ["created", "running", "waiting", "finished", "failed"].map((status) => status + " " + series[status].join("")).join(", ");
	})`)
	if want := "created 01000000, running 00101100, waiting 11121000, finished 00000011, failed 00000111"; got != want {
		t.Errorf("the numbers were %q, want %q", got, want)
	}
}

// TestPast_OfMuchThatMovesNothing has a flow do so much that neither its way nor the latest changes are on the first page of
// what the trail is looked through for.
func TestPast_OfMuchThatMovesNothing(t *testing.T) {
	t.Parallel()
	options := onSQLite(t)
	s := servertest.Start(t, options)
	id := inStatus(t, s, "running")
	command(t, s, id, "state", `{"patch": {"n": 1}}`)
	db := servertest.OpenDatabase(t, options.Database)
	again := func(times int) { // behind the server's back, or it alone would take most of the time
		t.Helper()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			`INSERT INTO events (seq, flow_id, revision, kind, at, actor, payload)
				SELECT feed.seq + n.value, flows.id, flows.revision + n.value, e.kind, e.at, e.actor, e.payload
				FROM feed, flows, (SELECT * FROM events WHERE kind = 'state_updated' LIMIT 1) AS e,
				(WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c WHERE value < $1) SELECT value FROM c) AS n`,
			`UPDATE flows SET revision = revision + $1`,
			`UPDATE feed SET seq = seq + $1`,
		} {
			if _, err := tx.ExecContext(t.Context(), statement, times); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	again(5_500) // a page of the API looks through 5,000 events
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows/" + id)
	p.await(`all(".way li").length === 2 && all(".way li")[0].startsWith("created") && all(".way li")[1].startsWith("running") && document.querySelectorAll(".edge.taken").length === 1`)
	command(t, s, id, "wait", `{"wait": {"kind": "manual"}}`)
	p.await(`all(".way li").length === 3 && all(".way li")[2].startsWith("waiting") && document.querySelectorAll(".edge.taken").length === 2`)
	command(t, s, id, "resume", "")
	again(20_500) // the overview looks through 20,000
	p.open("#/")
	p.awaitText(".latest", "No flow has changed its status lately.")
}
