package sqlite

import (
	"database/sql"
	"fmt"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// row is a row that can be read: *sql.Row or *sql.Rows.
type row interface{ Scan(dest ...any) error }

// micros reads a column of microseconds into a time.
type micros struct{ t *time.Time }

// Scan implements [sql.Scanner].
func (m micros) Scan(value any) error {
	n, ok := value.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", value)
	}
	*m.t = time.UnixMicro(n).UTC()
	return nil
}

// nullMicros reads a column of microseconds that may be NULL.
type nullMicros struct{ t **time.Time }

// Scan implements [sql.Scanner].
func (m nullMicros) Scan(value any) error {
	if value == nil {
		*m.t = nil
		return nil
	}
	*m.t = new(time.Time)
	return micros{*m.t}.Scan(value)
}

func microsOf(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}

// The columns that scanFlow reads, but for the state, which is read after them.
const flowColumns = `id, mode, controller_id, owner_session_key, requester_origin, current_step, goal, status,
	cancel_requested, revision, steps_total, steps_active, created_at, updated_at, ended_at, created_by,
	labels, resumed_by, wait`

const (
	selectFlow        = `SELECT ` + flowColumns + `, state FROM flows WHERE id = ?`
	selectFlowSummary = `SELECT ` + flowColumns + `, NULL FROM flows WHERE id = ?`
)

func scanFlow(r row, f *flows.Flow) error {
	var labels, resumedBy, wait []byte
	err := r.Scan(&f.ID, &f.Mode, &f.ControllerID, &f.OwnerSessionKey, &f.RequesterOrigin, &f.CurrentStep, &f.Goal,
		&f.Status, &f.CancelRequested, &f.Revision, &f.StepsTotal, &f.StepsActive, micros{&f.CreatedAt},
		micros{&f.UpdatedAt}, nullMicros{&f.EndedAt}, &f.CreatedBy, &labels, &resumedBy, &wait, (*[]byte)(&f.State))
	if err != nil {
		return err
	}
	if f.Labels, err = flows.LoadLabels(labels); err != nil {
		return err
	}
	if wait != nil {
		if f.Wait, err = flows.LoadWait(wait); err != nil {
			return err
		}
	}
	if resumedBy != nil {
		f.ResumedBy, err = flows.DecodeResumedBy(resumedBy)
	}
	return err
}

const stepColumns = `id, flow_id, run_id, runtime, task, status, child_session_key, result, observed_at, created_at, updated_at`

const selectStep = `SELECT ` + stepColumns + ` FROM steps WHERE flow_id = ? AND run_id = ?`

func scanStep(r row, s *flows.Step) error {
	var child sql.NullString
	err := r.Scan(&s.ID, &s.FlowID, &s.RunID, &s.Runtime, &s.Task, &s.Status, &child, (*[]byte)(&s.Result),
		micros{&s.ObservedAt}, micros{&s.CreatedAt}, micros{&s.UpdatedAt})
	if child.Valid {
		s.ChildSessionKey = &child.String
	}
	return err
}

const eventColumns = `seq, flow_id, revision, kind, payload, actor, at, coalesce(traceparent, '')`

func scanEvent(r row, e *flows.Event) error {
	return r.Scan(&e.Seq, &e.FlowID, &e.Revision, &e.Kind, (*[]byte)(&e.Payload), &e.Actor, micros{&e.At},
		&e.Traceparent)
}

func scanAnswer(r row, a *store.Answer) error {
	var key, fingerprint []byte
	err := r.Scan(&key, &fingerprint, micros{&a.CreatedAt}, &a.Owners, &a.Response)
	copy(a.Key[:], key)
	copy(a.Fingerprint[:], fingerprint)
	return err
}
