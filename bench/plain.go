package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// This file is baseline (b): the handler most people would write. One transaction for each request, the row locked and
// read, the JSON merged in Go, two writes, a commit. It answers the requests of the load generator with the statuses of
// the contract and does nothing to be slow: prepared statements, a sized pool, no logging per request.

//go:embed plain_schema.sql
var plainSchema string

// plainCommand is `bench plain-server`.
type plainCommand struct {
	Listen      string `help:"Address to listen on." default:"127.0.0.1:8090"`
	DatabaseURL string `help:"PostgreSQL; its tables are made where they are missing." required:""`
	Pool        int    `help:"Connections in the pool." default:"32"`
}

// Run serves until ctx ends.
func (c *plainCommand) Run(ctx context.Context) error {
	pool, err := openPlainPool(ctx, c.DatabaseURL, c.Pool)
	if err != nil {
		return err
	}
	defer pool.Close()
	server := &http.Server{Addr: c.Listen, Handler: newPlainHandler(pool), ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopDelay)
		defer cancel()
		stopped <- server.Shutdown(deadline)
	})
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("plain server: %w", err)
	}
	return <-stopped
}

func openPlainPool(ctx context.Context, databaseURL string, size int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("plain server: %w", err)
	}
	config.MaxConns = int32(size)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("plain server: %w", err)
	}
	if _, err := pool.Exec(ctx, plainSchema); err != nil {
		pool.Close()
		return nil, fmt.Errorf("plain server: schema: %w", err)
	}
	return pool, nil
}

type plainServer struct{ pool *pgxpool.Pool }

func newPlainHandler(pool *pgxpool.Pool) http.Handler {
	s := &plainServer{pool}
	router := chi.NewRouter()
	router.Get("/readyz", s.ready)
	router.Post("/flows", s.create)
	router.Get("/flows/{id}", s.get)
	router.Post("/flows/{id}/start", s.start)
	router.Post("/flows/{id}/state", s.updateState)
	return router
}

type plainFlow struct {
	ID              uuid.UUID      `json:"id"`
	ControllerID    string         `json:"controller_id"`
	Goal            string         `json:"goal"`
	OwnerSessionKey string         `json:"owner_session_key"`
	CurrentStep     string         `json:"current_step"`
	State           map[string]any `json:"state"`
	Status          string         `json:"status"`
	Revision        int64          `json:"revision"`
	CreatedAt       time.Time      `json:"created_at"`
	UpdatedAt       time.Time      `json:"updated_at"`
}

// plainError is an error with the status it is answered with.
type plainError struct {
	status int
	detail string
}

func (e *plainError) Error() string { return e.detail }

const plainSelect = `
SELECT id, controller_id, goal, owner_session_key, current_step, state, status, revision, created_at, updated_at
FROM flows WHERE id = $1`

const plainInsert = `
INSERT INTO flows (id, controller_id, goal, owner_session_key, current_step, state, status, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

const plainUpdate = `
UPDATE flows SET state = $2, current_step = $3, status = $4, revision = $5, updated_at = $6 WHERE id = $1`

const plainEvent = `
INSERT INTO events (flow_id, revision, kind, payload, actor, at) VALUES ($1, $2, $3, $4, 'anonymous', $5)`

func (s *plainServer) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.pool.Ping(r.Context()); err != nil {
		plainFail(w, err)
	}
}

func (s *plainServer) create(w http.ResponseWriter, r *http.Request) {
	flow := plainFlow{ID: uuid.Must(uuid.NewV7()), CurrentStep: "init", Status: "created"}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&flow); err != nil {
		plainFail(w, &plainError{http.StatusBadRequest, err.Error()})
		return
	}
	flow.CreatedAt = time.Now().UTC()
	flow.UpdatedAt = flow.CreatedAt
	err := pgx.BeginFunc(r.Context(), s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(r.Context(), plainInsert, flow.ID, flow.ControllerID, flow.Goal, flow.OwnerSessionKey,
			flow.CurrentStep, flow.State, flow.Status, flow.Revision, flow.CreatedAt, flow.UpdatedAt); err != nil {
			return err
		}
		_, err := tx.Exec(r.Context(), plainEvent, flow.ID, flow.Revision, "created",
			map[string]any{"goal": flow.Goal}, flow.CreatedAt)
		return err
	})
	plainAnswer(w, http.StatusCreated, &flow, err)
}

func (s *plainServer) get(w http.ResponseWriter, r *http.Request) {
	flow, err := loadPlainFlow(r, s.pool.QueryRow, plainSelect)
	plainAnswer(w, http.StatusOK, flow, err)
}

func (s *plainServer) start(w http.ResponseWriter, r *http.Request) {
	s.change(w, r, "started", func(flow *plainFlow) (map[string]any, error) {
		if flow.Status != "created" {
			return nil, &plainError{http.StatusConflict, "illegal transition"}
		}
		flow.Status = "running"
		return map[string]any{}, nil
	})
}

func (s *plainServer) updateState(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Patch       map[string]any `json:"patch"`
		CurrentStep *string        `json:"current_step"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil {
		plainFail(w, &plainError{http.StatusBadRequest, err.Error()})
		return
	}
	s.change(w, r, "state_updated", func(flow *plainFlow) (map[string]any, error) {
		if flow.State == nil {
			flow.State = map[string]any{}
		}
		maps.Copy(flow.State, body.Patch)
		if body.CurrentStep != nil {
			flow.CurrentStep = *body.CurrentStep
		}
		return map[string]any{"patch": body.Patch, "next_step": body.CurrentStep}, nil
	})
}

// change is one transaction: lock and read the flow, check it, apply, write it and its event, commit, answer.
func (s *plainServer) change(w http.ResponseWriter, r *http.Request, kind string,
	apply func(*plainFlow) (payload map[string]any, err error)) {
	var flow *plainFlow
	err := pgx.BeginFunc(r.Context(), s.pool, func(tx pgx.Tx) (err error) {
		if flow, err = loadPlainFlow(r, tx.QueryRow, plainSelect+" FOR UPDATE"); err != nil {
			return err
		}
		if err := checkPlain(r, flow); err != nil {
			return err
		}
		payload, err := apply(flow)
		if err != nil {
			return err
		}
		flow.Revision++
		flow.UpdatedAt = time.Now().UTC()
		if _, err := tx.Exec(r.Context(), plainUpdate, flow.ID, flow.State, flow.CurrentStep, flow.Status,
			flow.Revision, flow.UpdatedAt); err != nil {
			return err
		}
		_, err = tx.Exec(r.Context(), plainEvent, flow.ID, flow.Revision, kind, payload, flow.UpdatedAt)
		return err
	})
	plainAnswer(w, http.StatusOK, flow, err)
}

func loadPlainFlow(r *http.Request, query func(context.Context, string, ...any) pgx.Row, sql string) (*plainFlow, error) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		return nil, &plainError{http.StatusNotFound, "no such flow"}
	}
	var f plainFlow
	err = query(r.Context(), sql, id).Scan(&f.ID, &f.ControllerID, &f.Goal, &f.OwnerSessionKey, &f.CurrentStep,
		&f.State, &f.Status, &f.Revision, &f.CreatedAt, &f.UpdatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &plainError{http.StatusNotFound, "no such flow"}
	}
	return &f, err
}

// checkPlain checks the revision, if one was sent, and that the flow still takes changes.
func checkPlain(r *http.Request, flow *plainFlow) error {
	if sent := r.Header.Get("If-Match"); sent != "" {
		want, err := strconv.ParseInt(strings.Trim(sent, `"`), 10, 64)
		if err != nil {
			return &plainError{http.StatusBadRequest, "bad If-Match"}
		}
		if want != flow.Revision {
			return &plainError{http.StatusConflict, "revision conflict"}
		}
	}
	switch flow.Status {
	case "finished", "failed", "cancelled":
		return &plainError{http.StatusConflict, "already terminal"}
	}
	return nil
}

func plainAnswer(w http.ResponseWriter, status int, flow *plainFlow, err error) {
	if err != nil {
		plainFail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", strconv.Quote(strconv.FormatInt(flow.Revision, 10)))
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(flow); err != nil {
		slog.Error("writing an answer", "error", err)
	}
}

func plainFail(w http.ResponseWriter, err error) {
	refusal := &plainError{http.StatusInternalServerError, "internal error"}
	if !errors.As(err, &refusal) {
		slog.Error("request failed", "error", err)
	}
	http.Error(w, refusal.detail, refusal.status)
}
