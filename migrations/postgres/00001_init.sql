-- +goose Up

-- Text that is compared or indexed is collate "C": bytes, the same order in every store, and no index that breaks when
-- the operating system's collations change. The caller's JSON is json, never jsonb: it keeps numbers digit for digit.
-- There are no foreign keys: they would lock and look up the flow's row for every event, and whoever writes holds that
-- lock already.

-- An ordinary change of a flow alters no indexed column, and the fillfactor leaves it room on its page: the update is
-- HOT and touches no index. So there is no index on revision or updated_at.
create table flows (
    id                uuid primary key,
    mode              text collate "C" not null check (mode in ('managed', 'mirrored')),
    controller_id     text collate "C" not null,
    goal              text collate "C" not null,
    owner_session_key text collate "C" not null,
    requester_origin  text collate "C" not null,
    current_step      text collate "C" not null,
    state             json not null,
    wait              json,
    waiting_since     timestamptz,
    resumed_by        json,
    status            text collate "C" not null
                      check (status in ('created', 'running', 'waiting', 'finished', 'failed', 'cancelled')),
    cancel_requested  boolean not null,
    revision          bigint not null check (revision >= 0),
    labels            json not null,
    steps_total       integer not null check (steps_total >= 0),
    steps_active      integer not null check (steps_active >= 0),
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    ended_at          timestamptz,
    constraint flows_wait check ((wait is null) = (waiting_since is null))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);

create index flows_by_creation on flows (created_at, id);
create index flows_by_owner on flows (owner_session_key, created_at, id);
create index flows_by_controller on flows (controller_id, created_at, id);
create index flows_by_status on flows (status, created_at, id);
create index flows_by_waiting on flows (waiting_since, id) where waiting_since is not null;

-- The labels of flows once more, for filtering: one row each, in the order of a page.
create table flow_labels (
    key        text collate "C" not null,
    value      text collate "C" not null,
    created_at timestamptz not null, -- the flow's
    flow_id    uuid not null,
    primary key (key, value, created_at, flow_id)
);

create index flow_labels_by_flow on flow_labels (flow_id);

create table steps (
    id                uuid not null,
    flow_id           uuid not null,
    run_id            text collate "C" not null,
    runtime           text collate "C" not null check (runtime in ('managed', 'mirrored')),
    task              text collate "C" not null,
    status            text collate "C" not null
                      check (status in ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    child_session_key text collate "C",
    result            json not null,
    observed_at       timestamptz not null,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    primary key (flow_id, run_id)
) with (fillfactor = 80);

create index steps_by_creation on steps (flow_id, created_at, id);

-- Most flows have few steps, some have thousands. Told the truth, the planner finds a step by either index and filters;
-- told that ten are usual, it looks it up by the primary key.
alter table steps alter column flow_id set (n_distinct = -0.1);

-- The audit trail: appended to, never altered; rows leave only with their flow.
create table events (
    seq      bigint primary key,
    flow_id  uuid not null,
    revision bigint not null,
    kind     text collate "C" not null,
    payload  json not null,
    actor    text collate "C" not null,
    at       timestamptz not null
) with (autovacuum_vacuum_insert_scale_factor = 0.05);

create index events_by_flow on events (flow_id, seq);

-- One row: the last number of the feed. Raised last in a transaction, and locked until its commit, so numbers are
-- handed out in commit order.
create table feed (
    id  boolean primary key default true check (id),
    seq bigint not null
) with (fillfactor = 10);

insert into feed (seq) values (0);

-- Stored answers to requests with an idempotency key.
create table answers (
    key         bytea primary key,
    fingerprint bytea not null,
    response    bytea not null,
    created_at  timestamptz not null
);

create index answers_by_creation on answers (created_at);

-- +goose Down

drop table answers, feed, events, steps, flow_labels, flows;
