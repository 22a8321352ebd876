-- +goose NO TRANSACTION
-- +goose Up

-- Who may do what. The release before knows of no callers: what it writes is as what a caller writes that covers everyone.
-- Each statement may be run again after one that failed.

-- The id of the caller that created the flow, '' without authentication.
alter table flows add column if not exists created_by text collate "C" not null default '';

-- What the sender covers: one owner_session_key, or a prefix and '*'.
alter table external_events add column if not exists owners text collate "C" not null default '*';

-- What the caller covered that the answer was for.
alter table answers add column if not exists owners text collate "C" not null default '*';

-- external_events_buffered once more, with what tells whether the sender covers a flow.
drop index concurrently if exists external_events_kept;
create index concurrently external_events_kept on external_events (topic, correlation_id, expires_at, at, id)
    include (flow_id, owners) where outcome = 'buffered';
drop index concurrently if exists external_events_buffered;

-- How many flows each caller has created that have not ended; a row is written only for flows with a created_by.
create table if not exists open_flows (
    caller text collate "C" primary key,
    n      bigint not null
) with (fillfactor = 50);

-- The keys that let callers in. hash is the SHA-256 of the exact key, which is not kept; scopes are separated by spaces.
create table if not exists api_keys (
    id           text collate "C" primary key,
    name         text collate "C" not null,
    hash         bytea not null,
    scopes       text collate "C" not null,
    owners       text collate "C" not null,
    created_at   timestamptz not null,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

-- +goose Down

drop table if exists api_keys, open_flows;
drop index concurrently if exists external_events_buffered;
create index concurrently external_events_buffered on external_events (topic, correlation_id, expires_at, at, id)
    include (flow_id) where outcome = 'buffered';
drop index concurrently if exists external_events_kept;
alter table answers drop column if exists owners;
alter table external_events drop column if exists owners;
alter table flows drop column if exists created_by;
