-- Waits that end by themselves: due times, what external events are matched with, the events and their receipts, and the
-- keys of callback URLs. Everything about a wait is in flows.wait; due_at and awaited say it once more, to be found by.
-- The release before this one leaves them as they are, so they may be out of date: internal/sqlite checks each against
-- the flow it finds by them, and puts it right.

-- +goose Up

-- due_at is when the wait ends by the clock, at the latest; NULL where it does not.
ALTER TABLE flows ADD COLUMN due_at INTEGER;

CREATE INDEX flows_due ON flows (due_at, id) WHERE due_at IS NOT NULL AND waiting_since IS NOT NULL;
CREATE INDEX flows_ended ON flows (ended_at, id) WHERE ended_at IS NOT NULL;

-- A row for each pair of topic and correlation id that a waiting flow waits for; since is when its wait began.
CREATE TABLE awaited (
    topic          TEXT    NOT NULL,
    correlation_id TEXT    NOT NULL,
    since          INTEGER NOT NULL,
    flow_id        BLOB    NOT NULL,
    PRIMARY KEY (topic, correlation_id, since, flow_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX awaited_flow ON awaited (flow_id);

-- flows is JSON: the first flows that the event resumed. payload is the sender's, NULL where none was given. outcome is as
-- it was last written: a buffered event expires without a write.
CREATE TABLE external_events (
    id             BLOB    NOT NULL PRIMARY KEY,
    at             INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    outcome        TEXT    NOT NULL,
    flow_count     INTEGER NOT NULL,
    flow_id        BLOB,
    topic          TEXT    NOT NULL,
    correlation_id TEXT    NOT NULL,
    actor          TEXT    NOT NULL,
    flows          TEXT    NOT NULL,
    payload        TEXT
) STRICT;

-- The last two columns of this index let a wait pass over what has expired or is for other flows without reading it.
CREATE INDEX external_events_buffered ON external_events (topic, correlation_id, at, id, expires_at, flow_id)
    WHERE outcome = 'buffered';
CREATE INDEX external_events_delivering ON external_events (at, id) WHERE outcome = 'delivering';

-- One index for each filter that a page of receipts can be read from, in the order of the pages. The last two columns of
-- the first let the sweep pass over what it has to keep.
CREATE INDEX external_events_at ON external_events (at, id, outcome, expires_at);
CREATE INDEX external_events_topic ON external_events (topic, at, id);
CREATE INDEX external_events_correlation ON external_events (correlation_id, at, id);

CREATE TABLE callback_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    secret     BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- A schema that was taken back to version 1 may hold waits of this version.
INSERT OR IGNORE INTO awaited (topic, correlation_id, since, flow_id)
SELECT wait ->> '$.topic', wait ->> '$.correlation_id', waiting_since, id
FROM flows WHERE waiting_since IS NOT NULL AND wait ->> '$.topic' IS NOT NULL
UNION ALL
SELECT c.value ->> '$.topic', c.value ->> '$.correlation_id', f.waiting_since, f.id
FROM flows f CROSS JOIN json_each(f.wait, '$.conditions') c
WHERE f.waiting_since IS NOT NULL AND c.value ->> '$.topic' IS NOT NULL;

UPDATE flows SET due_at = (
    SELECT min(unixepoch(substr(t.at, 1, 19)) * 1000000 + substr(t.at, 21, 6))
    FROM (
        SELECT flows.wait ->> '$.at' AS at
        UNION ALL SELECT flows.wait ->> '$.timeout.at'
        UNION ALL SELECT c.value ->> '$.at' FROM json_each(flows.wait, '$.conditions') c
    ) t)
WHERE waiting_since IS NOT NULL;

-- +goose Down

DROP TABLE callback_keys;
DROP TABLE external_events;
DROP TABLE awaited;
DROP INDEX flows_ended;
DROP INDEX flows_due;
ALTER TABLE flows DROP COLUMN due_at;
