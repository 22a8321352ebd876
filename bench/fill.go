package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// This file fills a database with flows that a server wrote a few of. A cycle of templates is made over HTTP; all others
// are copies of their rows, in every table that has any, with ids, times, owners, controllers and numbers of their own.
// It knows no column but those it changes, so what a migration adds is copied as the server wrote it.

const (
	// slots is how many templates there are: a hundred, so that shares of the whole are in percent.
	slots = 100
	// fillOwners and fillControllers are how many the copies belong to, each to about as many.
	fillOwners, fillControllers = 1000, 50
	// fillSpacing is the time between the creation of two copies.
	fillSpacing = 500 * time.Millisecond
	// The marks in the texts of templates, which each copy has something of its own for.
	markOwner, markController, markNumber = "{owner}", "{controller}", "{number}"
)

// filling is a database that fills, in a server's hands.
type filling struct {
	conn      *pgx.Conn
	http      *httpConn
	templates []string // ids, by slot
	base      time.Time
	events    int64 // of all templates
	tables    []copiedTable
	total     int // flows to be there at the end, templates included
}

// copiedTable is the statement that copies the rows of one table.
type copiedTable struct{ name, statement string }

// fill brings an empty database that server serves to total flows: a multiple of slots. Slots says what the template in
// each slot is.
func fill(ctx context.Context, server *process, database string, total int, template func(slot int) template) error {
	if total < slots || total%slots != 0 {
		return fmt.Errorf("%d flows are no multiple of %d", total, slots)
	}
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	f := &filling{conn: conn, http: newHTTPConn(strings.TrimPrefix(server.url, "http://"), time.Time{}), total: total}
	defer f.http.close()
	for slot := range slots {
		id, err := template(slot).create(ctx, f.http)
		if err != nil {
			return fmt.Errorf("template %d: %w", slot, errors.Join(err, server.complaint()))
		}
		f.templates = append(f.templates, id)
	}
	if err := conn.QueryRow(ctx, `select clock_timestamp(), seq from feed`).Scan(&f.base, &f.events); err != nil {
		return err
	}
	if f.tables, err = findTables(ctx, conn); err != nil {
		return err
	}
	if err := f.copyAll(ctx); err != nil {
		return err
	}
	return f.check(ctx, server)
}

// copyAll makes the copies, so many cycles to a transaction, and lets the database settle.
func (f *filling) copyAll(ctx context.Context) error {
	const atOnce = 200
	cycles := f.total/slots - 1
	for from := 0; from < cycles; from += atOnce {
		until := min(cycles, from+atOnce)
		if err := pgx.BeginFunc(ctx, f.conn, func(tx pgx.Tx) error { return f.copyCycles(ctx, tx, from, until) }); err != nil {
			return fmt.Errorf("filling the database: %w", err)
		}
	}
	for _, statement := range []string{"vacuum analyze", "checkpoint"} {
		if _, err := f.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// copyCycles copies all templates for the cycles from (inclusive) until (exclusive).
func (f *filling) copyCycles(ctx context.Context, tx pgx.Tx, from, until int) error {
	for _, table := range f.tables {
		if _, err := tx.Exec(ctx, table.statement, f.templates, from, until-1, f.total, f.base, f.events); err != nil {
			return fmt.Errorf("table %s: %w", table.name, err)
		}
	}
	_, err := tx.Exec(ctx, `update feed set seq = $1`, f.events*int64(until+1))
	return err
}

// Copies are numbered from 0, the oldest. Parameters: the templates' ids, the first and the last cycle, how many flows there
// will be, when the templates were made, and how many events they have.
const (
	copyNumber = `(c * 100 + s.slot - 1)`
	// A copy's age, by which its times are before those of its template.
	copyAge = `make_interval(secs => ($4::bigint - ` + copyNumber + `) * %v)`
	// Which owner and controller: spread, so that neither goes by slot or by time.
	copyOwner = `((` + copyNumber + ` * 2654435761) >> 12) %% %d`
	// copyID is a UUID of version 7 for the time the copy was created, as the server makes them.
	copyID = `(lpad(to_hex((extract(epoch from $5::timestamptz - ` + copyAge + `) * 1000)::bigint), 12, '0') || '7' ||
    lpad(to_hex(` + copyNumber + ` %% 4096), 3, '0') || '8' || lpad(to_hex(` + copyNumber + `), 15, '0'))::uuid`
	copyFrom = `
insert into %s (%s)
select %s
from generate_series($2::bigint, $3::bigint) c cross join unnest($1::uuid[]) with ordinality s(id, slot)
    join %[1]s t on t.%[4]s = s.id
where $4::bigint > 0 and $5::timestamptz is not null and $6::bigint > 0
order by c, s.slot`
)

const selectColumns = `
select c.table_name::text, array_agg(c.column_name::text order by c.ordinal_position),
    array_agg(c.data_type::text order by c.ordinal_position)
from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
where c.table_schema = 'public' and t.table_type = 'BASE TABLE' and c.is_generated = 'NEVER'
group by c.table_name
having bool_or(c.column_name = 'flow_id') or c.table_name = 'flows'
order by c.table_name <> 'flows', c.table_name`

// findTables finds every table that has rows of flows.
func findTables(ctx context.Context, conn *pgx.Conn) ([]copiedTable, error) {
	rows, err := conn.Query(ctx, selectColumns)
	if err != nil {
		return nil, err
	}
	var tables []copiedTable
	var name string
	var columns, types []string
	_, err = pgx.ForEachRow(rows, []any{&name, &columns, &types}, func() error {
		tables = append(tables, copiedTable{name, copyStatement(name, columns, types)})
		return nil
	})
	return tables, err
}

func copyStatement(table string, columns, types []string) string {
	key := "flow_id"
	if table == "flows" {
		key = "id"
	}
	values := make([]string, len(columns))
	for i, column := range columns {
		values[i] = copyValue(key, column, types[i])
	}
	return fmt.Sprintf(copyFrom, pgx.Identifier{table}.Sanitize(), strings.Join(columns, ", "), strings.Join(values, ",\n    "), key)
}

// copyValue is what a copy has in a column.
func copyValue(key, column, kind string) string {
	value := "t." + column
	switch {
	case column == key:
		return fmt.Sprintf(copyID, fillSpacing.Seconds())
	case column == "seq" && kind == "bigint":
		return value + ` + $6 * (c + 1)`
	case kind == "timestamp with time zone" && column != "due_at": // which the wait repeats, and which must not come
		return value + " - " + fmt.Sprintf(copyAge, fillSpacing.Seconds())
	case kind == "text" || kind == "json" || kind == "jsonb":
		owner := fmt.Sprintf(copyOwner, fillOwners)
		for _, own := range [][2]string{
			{markOwner, `'org-' || lpad((` + owner + ` / 10)::text, 2, '0') || ':agent-' || ` + owner + ` % 10`},
			{markController, `'team/controller-' || ` + fmt.Sprintf(copyOwner, fillControllers)},
			{markNumber, copyNumber + "::text"},
		} {
			value = "replace(" + value + "::text, '" + own[0] + "', " + own[1] + ")"
		}
		return value + "::" + kind
	}
	return value
}

// ownerOf and controllerOf are the names of owners and controllers of copies, from 0.
func ownerOf(i int) string      { return fmt.Sprintf("org-%02d:agent-%d", i/10, i%10) }
func controllerOf(i int) string { return "team/controller-" + strconv.Itoa(i) }

// checkedCopies is how many copies are read back through the server, from anywhere.
const checkedCopies = 3 * slots

const selectCopies = `
select id::text from flows where id <> all($1::uuid[]) order by md5(id::text) limit $2`

// check reads copies back through the server: but for what is a copy's own, they are what the template is, in the trail too.
func (f *filling) check(ctx context.Context, server *process) error {
	var there int
	if err := f.conn.QueryRow(ctx, `select count(*) from flows`).Scan(&there); err != nil {
		return err
	}
	if there != f.total {
		return fmt.Errorf("%d flows are there, want %d", there, f.total)
	}
	rows, err := f.conn.Query(ctx, selectCopies, f.templates, min(checkedCopies, f.total-slots))
	if err != nil {
		return err
	}
	copies, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range copies {
		number, err := numberOf(id)
		if err != nil {
			return err
		}
		if err := f.compare(ctx, f.templates[number%slots], id); err != nil {
			return errors.Join(fmt.Errorf("copy %s of template %d: %w", id, number%slots, err), server.complaint())
		}
	}
	return nil
}

// numberOf is a copy's number, which its id ends with.
func numberOf(id string) (int64, error) {
	digits := strings.ReplaceAll(id, "-", "")
	return strconv.ParseInt(digits[min(17, len(digits)):], 16, 64)
}

// compare holds a copy against its template.
func (f *filling) compare(ctx context.Context, templateID, copyID string) error {
	for _, path := range []string{"", "/events"} {
		var texts [2]string
		for i, id := range []string{templateID, copyID} {
			body, err := f.http.expect(ctx, request{method: "GET", path: "/flows/" + id + path}, http.StatusOK)
			if err != nil {
				return err
			}
			if texts[i], err = outline(body); err != nil {
				return err
			}
		}
		if texts[0] != texts[1] {
			return fmt.Errorf("%w: %s is\n%s, want\n%s", errMalformed, path, texts[1], texts[0])
		}
	}
	return nil
}
