-- +goose NO TRANSACTION
-- +goose Up

-- Replicas of the release before go on while this runs, and after it. So the indexes of flows are built without a lock
-- that keeps writers out, outside of any transaction; and each statement may be run again after one that failed.

-- When a waiting flow's timer or timeout is due, and the wait that it belongs to, by when that began. The release before
-- ends waits and begins others without touching either: a due time counts only for the wait it was written with.
alter table flows add column if not exists due_at timestamptz, add column if not exists due_since timestamptz;

drop index concurrently if exists flows_by_due;
create index concurrently flows_by_due on flows (due_at, id) where due_since = waiting_since;

drop index concurrently if exists flows_by_end;
create index concurrently flows_by_end on flows (ended_at, id) where ended_at is not null;

-- The external events that flows wait for: one row for each pair of a waiting flow. since is the flow's waiting_since; a
-- row with another one was left behind by the release before, and counts for nothing.
create table if not exists awaited (
    topic          text collate "C" not null,
    correlation_id text collate "C" not null,
    since          timestamptz not null,
    flow_id        uuid not null,
    primary key (topic, correlation_id, since, flow_id)
);

create index if not exists awaited_by_flow on awaited (flow_id);

-- External events, and as long as they are kept, what became of them. A buffered one whose time is over is expired
-- without being written to.
create table if not exists external_events (
    id             uuid primary key,
    topic          text collate "C" not null,
    correlation_id text collate "C" not null,
    flow_id        uuid,
    payload        json,
    actor          text collate "C" not null,
    at             timestamptz not null,
    expires_at     timestamptz not null,
    outcome        text collate "C" not null
                   check (outcome in ('delivered', 'delivering', 'buffered', 'expired', 'unmatched')),
    flows          json not null, -- [{"id", "revision"}], the first that it resumed
    flow_count     bigint not null check (flow_count >= 0)
);

-- By expires_at before at: of a pair that is written to all the time and rarely waited for, what has expired outnumbers
-- what is alive, and is not looked at.
create index if not exists external_events_buffered on external_events (topic, correlation_id, expires_at, at, id)
    include (flow_id) where outcome = 'buffered';
create index if not exists external_events_delivering on external_events (at, id) where outcome = 'delivering';
create index if not exists external_events_by_time on external_events (at, id);
create index if not exists external_events_by_topic on external_events (topic, at, id);
create index if not exists external_events_by_correlation on external_events (correlation_id, at, id);

-- The keys that sign callback URLs.
create table if not exists callback_keys (
    id         text collate "C" primary key,
    secret     bytea not null,
    created_at timestamptz not null
);

-- +goose Down

drop table if exists callback_keys, external_events, awaited;
drop index concurrently if exists flows_by_end;
drop index concurrently if exists flows_by_due;
alter table flows drop column if exists due_since, drop column if exists due_at;
