-- The tables under pgbench_single.sql and pgbench_select.sql, with no more than one statement needs: no index besides
-- the keys, and room in the pages for updates in place (HOT).
DROP SCHEMA IF EXISTS bench_single CASCADE;
CREATE SCHEMA bench_single;

CREATE TABLE bench_single.flow (
    id           bigint PRIMARY KEY,
    owner        text NOT NULL,
    status       text NOT NULL,
    current_step text NOT NULL,
    state        jsonb NOT NULL,
    revision     bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE bench_single.event (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow_id  bigint NOT NULL,
    revision bigint NOT NULL,
    kind     text NOT NULL,
    payload  jsonb NOT NULL,
    actor    text NOT NULL,
    at       timestamptz NOT NULL
);
