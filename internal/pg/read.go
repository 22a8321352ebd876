package pg

import (
	"context"
	"errors"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	selectFlow = `select ` + flowColumns + ` from flows f where f.id = ?`
	flowExists = `select from flows f where f.id = ?`
	selectStep = `select ` + stepColumns + ` from steps s where s.flow_id = ? and s.run_id = ?`
)

// read runs fn on a reader's connection.
func (s *Store) read(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error {
	return s.on(ctx, s.readers, fn)
}

// flowAlone reads one flow by a statement of its own, or flows.ErrNotFound.
func (s *Store) flowAlone(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.Flow, error) {
	var sql statement
	sql.add(selectFlow, [16]byte(id))
	sql.covered(`f.owner_session_key`, owners)
	return readOne(ctx, s, scanFlow, &sql)
}

// Step implements store.Reader.
func (s *Store) Step(ctx context.Context, key store.StepKey, owners flows.Owners) (*flows.Step, error) {
	var sql statement
	sql.add(selectStep, [16]byte(key.FlowID), key.RunID)
	sql.ofCovered(key.FlowID, owners)
	return readOne(ctx, s, scanStep, &sql)
}

// readOne reads the one row of a statement, or flows.ErrNotFound.
func readOne[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], sql *statement) (found T, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, sql.text.String(), sql.args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectOneRow(rows, scan)
		return notFound(err)
	})
	return found, err
}

func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return flows.ErrNotFound
	}
	return err
}

// mustExist is nil where the flow exists and is covered, else flows.ErrNotFound. Asked after an empty list, it tells a
// flow that has none from no flow.
func mustExist(ctx context.Context, conn *pgx.Conn, id uuid.UUID, owners flows.Owners) error {
	var sql statement
	sql.add(flowExists, [16]byte(id))
	sql.covered(`f.owner_session_key`, owners)
	return notFound(conn.QueryRow(ctx, sql.text.String(), sql.args...).Scan())
}

// ofCovered adds that a flow is covered; of one that is not, or is not there, nothing is found. It is asked once, not for
// each row.
func (s *statement) ofCovered(id uuid.UUID, owners flows.Owners) {
	if owners == flows.Everyone {
		return
	}
	s.add(` and exists (`+flowExists, [16]byte(id))
	s.covered(`f.owner_session_key`, owners)
	s.add(`)`)
}

// Steps implements store.Reader.
func (s *Store) Steps(ctx context.Context, q store.StepQuery) (store.StepPage, error) {
	var sql statement
	sql.add(`select `+stepColumns+` from steps s where s.flow_id = ?`, [16]byte(q.FlowID))
	sql.ofCovered(q.FlowID, q.Owners)
	if q.From != nil {
		sql.add(` and (s.created_at, s.id) > (?, ?)`, q.From.CreatedAt, [16]byte(q.From.ID))
	}
	sql.add(` order by s.created_at, s.id limit ?`, q.Limit+1)
	var page store.StepPage
	err := s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		steps, last, err := readPage(ctx, conn, &sql, q.Limit, q.Limit+1, scanFoundStep, (*store.Filling).AddStep)
		if err != nil {
			return err
		}
		if len(steps) == 0 {
			return mustExist(ctx, conn, q.FlowID, q.Owners)
		}
		page = store.StepPage{Items: steps}
		if last != nil {
			page.Next = &store.StepPosition{CreatedAt: (*last).CreatedAt, ID: (*last).ID}
		}
		return nil
	})
	return page, err
}

// scanFoundStep reads a step of a list that every one of its rows belongs to.
func scanFoundStep(row pgx.CollectableRow) (f found[*flows.Step], err error) {
	f.hit = true
	f.item, err = scanStep(row)
	return f, err
}

// goose keeps a row for each migration applied, and deletes it when the migration is undone.
const schemaVersion = `select coalesce(max(version_id), 0) from goose_db_version where is_applied`

// SchemaVersion implements store.Reader; 0 is a database without a schema.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var version int64
	err := s.on(ctx, s.keys, func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, schemaVersion).Scan(&version)
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "42P01" { // undefined_table
			return nil
		}
		return err
	})
	return version, err
}
