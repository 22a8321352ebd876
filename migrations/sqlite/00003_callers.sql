-- Who may do what. The release before this one knows of no callers: what it writes is as what a caller writes that covers
-- everyone.

-- +goose Up

-- The id of the caller that created the flow, '' without authentication.
ALTER TABLE flows ADD COLUMN created_by TEXT NOT NULL DEFAULT '';

-- What the sender covers: one owner_session_key, or a prefix and '*'.
ALTER TABLE external_events ADD COLUMN owners TEXT NOT NULL DEFAULT '*';

-- What the caller covered that the answer was for.
ALTER TABLE answers ADD COLUMN owners TEXT NOT NULL DEFAULT '*';

-- As before, with what tells whether the sender covers a flow.
DROP INDEX external_events_buffered;
CREATE INDEX external_events_buffered ON external_events (topic, correlation_id, at, id, expires_at, flow_id, owners)
    WHERE outcome = 'buffered';

-- How many flows each caller has created that have not ended; a row is written only for flows with a created_by.
CREATE TABLE open_flows (
    caller TEXT    NOT NULL PRIMARY KEY,
    n      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys that let callers in. hash is the SHA-256 of the exact key, which is not kept; scopes are separated by spaces.
CREATE TABLE api_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL,
    hash         BLOB    NOT NULL,
    scopes       TEXT    NOT NULL,
    owners       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER
) STRICT;

-- +goose Down

DROP TABLE api_keys;
DROP TABLE open_flows;
DROP INDEX external_events_buffered;
CREATE INDEX external_events_buffered ON external_events (topic, correlation_id, at, id, expires_at, flow_id)
    WHERE outcome = 'buffered';
ALTER TABLE answers DROP COLUMN owners;
ALTER TABLE external_events DROP COLUMN owners;
ALTER TABLE flows DROP COLUMN created_by;
