-- Times are microseconds since 1970, UTC. Identifiers are the 16 bytes of a UUID, whose order as bytes is their order.
-- Columns named state, result, payload, wait, resumed_by and labels hold JSON; the caller's stays as it was sent, byte for
-- byte. There are no foreign keys: every write goes through one transaction of internal/sqlite, which deletes a flow with
-- all that belongs to it, and a check on each audit event would cost a look-up and find nothing.

-- +goose Up

-- The columns that may be large come last, so that reading the others does not walk their overflow pages.
CREATE TABLE flows (
    id                BLOB    NOT NULL PRIMARY KEY,
    mode              TEXT    NOT NULL,
    controller_id     TEXT    NOT NULL,
    owner_session_key TEXT    NOT NULL,
    status            TEXT    NOT NULL,
    revision          INTEGER NOT NULL,
    cancel_requested  INTEGER NOT NULL,
    steps_total       INTEGER NOT NULL,
    steps_active      INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    ended_at          INTEGER,
    wait_kind         TEXT,
    waiting_since     INTEGER,
    requester_origin  TEXT    NOT NULL,
    current_step      TEXT    NOT NULL,
    goal              TEXT    NOT NULL,
    labels            TEXT    NOT NULL,
    resumed_by        TEXT,
    wait              TEXT,
    state             TEXT    NOT NULL
) STRICT;

-- One index for each filter that a page of flows can be read from, in the order of the pages.
CREATE INDEX flows_created ON flows (created_at, id);
CREATE INDEX flows_owner ON flows (owner_session_key, created_at, id);
CREATE INDEX flows_controller ON flows (controller_id, created_at, id);
CREATE INDEX flows_status ON flows (status, created_at, id);
CREATE INDEX flows_waiting ON flows (waiting_since, id) WHERE waiting_since IS NOT NULL;

-- The labels of flows.labels once more, to find flows by. created_at is the flow's, for the order of the pages.
CREATE TABLE flow_labels (
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    flow_id    BLOB    NOT NULL,
    PRIMARY KEY (key, value, created_at, flow_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
    id                BLOB    NOT NULL,
    flow_id           BLOB    NOT NULL,
    run_id            TEXT    NOT NULL,
    runtime           TEXT    NOT NULL,
    status            TEXT    NOT NULL,
    observed_at       INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    child_session_key TEXT,
    task              TEXT    NOT NULL,
    result            TEXT    NOT NULL,
    PRIMARY KEY (flow_id, run_id)
) STRICT;

CREATE INDEX steps_created ON steps (flow_id, created_at, id);

-- The audit trail. Every index ends with the row's number, which is seq: events_flow serves (flow_id, seq).
CREATE TABLE events (
    seq      INTEGER NOT NULL PRIMARY KEY,
    flow_id  BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    payload  TEXT    NOT NULL
) STRICT;

CREATE INDEX events_flow ON events (flow_id);

-- One row. seq is the last number handed out to an audit event; batch is a random number that every write replaces, by
-- which a writer whose COMMIT failed finds out whether its change is there.
CREATE TABLE feed (
    id    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq   INTEGER NOT NULL,
    batch INTEGER NOT NULL
) STRICT;

INSERT INTO feed (id, seq, batch) VALUES (1, 0, 0);

-- Answers to requests that came with an idempotency key.
CREATE TABLE answers (
    key         BLOB    NOT NULL PRIMARY KEY,
    fingerprint BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    response    BLOB    NOT NULL
) STRICT;

CREATE INDEX answers_created ON answers (created_at);

-- +goose Down

DROP TABLE answers;
DROP TABLE feed;
DROP TABLE events;
DROP TABLE steps;
DROP TABLE flow_labels;
DROP TABLE flows;
