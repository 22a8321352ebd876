package faults_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// plant is damage done behind the server's back, how to undo it, and what the checker must find.
type plant struct {
	name       string
	damage     []string
	undo       []string
	want       string
	consistent bool // the database by itself is without fault; only what clients know tells
}

// plants are all kinds of damage to the flow of an event that is neither its first nor its last. The SQL is what both
// databases understand. before is the flow's state without the last event.
func plants(e, last event, before string) []plant {
	var (
		flow  = fmt.Sprintf("(select flow_id from events where seq = %d)", e.Seq)
		this  = fmt.Sprintf("where seq = %d", e.Seq)
		final = fmt.Sprintf("where seq = %d", last.Seq)
		quote = func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	)
	row := func(table, where, then string) (damage, undo []string) { // keeps rows, and brings them back
		return []string{"create table kept as select * from " + table + " " + where, then},
			[]string{"delete from " + table + " " + where, "insert into " + table + " select * from kept", "drop table kept"}
	}
	damage := func(name, want, table, where, then string) plant {
		d, u := row(table, where, then)
		return plant{name: name, damage: d, undo: u, want: want}
	}
	return []plant{
		damage("an event is lost", "follows", "events", this, "delete from events "+this),
		damage("the last event is lost", "its trail says", "events", final, "delete from events "+final),
		damage("the state is another", "its state is", "flows", "where id = "+flow, `update flows set state = '{"planted": 1}' where id = `+flow),
		damage("the revision is ahead", "its trail says", "flows", "where id = "+flow, "update flows set revision = revision + 1 where id = "+flow),
		damage("the status is another", "its trail says", "flows", "where id = "+flow, "update flows set status = 'cancelled' where id = "+flow),
		damage("the flow is lost", "does not exist", "flows", "where id = "+flow, "delete from flows where id = "+flow),
		damage("the steps are lost", "do not exist", "steps", "where flow_id = "+flow, "delete from steps where flow_id = "+flow),
		damage("a step is another", "its trail says", "steps", "where flow_id = "+flow, "update steps set status = 'failed' where flow_id = "+flow),
		{
			name: "a change is lost with its event and its effect",
			damage: []string{
				"create table kept as select * from events " + final, "delete from events " + final,
				"create table kept_flow as select * from flows where id = (select flow_id from kept)",
				"update flows set revision = revision - 1, state = " + quote(before) + " where id = (select flow_id from kept)",
			},
			undo: []string{
				"insert into events select * from kept", "delete from flows where id = (select flow_id from kept)",
				"insert into flows select * from kept_flow", "drop table kept", "drop table kept_flow",
			},
			want: "an acknowledged change is lost", consistent: true,
		},
		{
			name: "a change has taken effect twice",
			damage: []string{
				"insert into events (seq, flow_id, revision, kind, payload, actor, at) select (select max(seq) + 1 from events), flow_id, revision + 1, kind, " +
					quote(string(last.Payload)) + ", actor, at from events " + final,
				"update flows set revision = revision + 1 where id = " + flow,
			},
			undo: []string{
				"update flows set revision = revision - 1 where id = " + flow, "delete from events where seq = (select max(seq) from events)",
			},
			want: "took effect 2 times", consistent: true,
		},
	}
}

// TestChecker_FindsPlantedDamage shows that a check that finds nothing means something.
func TestChecker_FindsPlantedDamage(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		servers, l := startWithKeys(t, servertest.Options{Database: url}, 1)
		c := servers[0].Client
		load := startLoad(t, servers, l)
		load.awaitMore(100)
		load.finish()
		db := servertest.OpenDatabase(t, url)
		all := append(plants(target(t, load, c)), drift(t, url, 1), drift(t, url, -1))
		for _, p := range all {
			execute(t, db, p.damage)
			inside, outside := find(t, c, l)
			if found := append(inside, outside...); (len(inside) == 0) != p.consistent || !slices.ContainsFunc(found, func(wrong string) bool { return strings.Contains(wrong, p.want) }) {
				t.Errorf("%s: the checker finds %q, and nothing with %q", p.name, found, p.want)
			}
			execute(t, db, p.undo)
			if inside, outside := find(t, c, l); len(inside)+len(outside) > 0 {
				t.Fatalf("%s, undone: the checker finds %q and %q", p.name, inside, outside)
			}
		}
		told := l.requests[slices.IndexFunc(l.requests, func(r *request) bool { return r.effects[0].fate == made })]
		told.settle(notMade)
		if inside, outside := find(t, c, l); len(inside) > 0 || len(outside) != len(told.effects) {
			t.Errorf("a change that a client was told is not there: the checker finds %q and %q", inside, outside)
		}
		t.Logf("%d kinds of damage were found, each for itself", len(all)+1)
	})
}

// find runs both halves of the checker: what contradicts itself, and what contradicts the clients.
func find(t *testing.T, c *servertest.Client, l *ledger) (inside, outside []string) {
	t.Helper()
	s := l.takeSnapshot(t, c)
	return s.check(), l.check(s)
}

// target gives a flow what is needed, and picks two patches from its trail: the last, and one with others around it. Both
// set one and the same member of the state; before is the state between them.
func target(t *testing.T, g *load, c *servertest.Client) (e, last event, before string) {
	t.Helper()
	w, id := &worker{load: g, caller: g.caller(0)}, g.hot[0]
	read := func() *snapshot {
		s, err := takeSnapshot(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	patch := func() fate { return w.command(id, "state", "state_updated", `{"patch": {"same": "%s"}}`) }
	if w.observe(id, "running") != made || patch() != made {
		t.Fatalf("changes were not made: %v", g.ledger.odd)
	}
	before = string(read().flows[id].State)
	if patch() != made {
		t.Fatalf("a change was not made: %v", g.ledger.odd)
	}
	trail := read().events[id]
	return trail[len(trail)-2], trail[len(trail)-1], before
}

func execute(t *testing.T, db *sql.DB, statements []string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
