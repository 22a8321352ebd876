-- The tables of the plain handler, with the indexes its lists would want. No foreign key: that would only cost it.
CREATE TABLE IF NOT EXISTS flows (
    id                uuid PRIMARY KEY,
    controller_id     text NOT NULL,
    goal              text NOT NULL,
    owner_session_key text NOT NULL,
    current_step      text NOT NULL,
    state             jsonb NOT NULL,
    status            text NOT NULL,
    revision          bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS flows_owner ON flows (owner_session_key);
CREATE INDEX IF NOT EXISTS flows_status ON flows (status);
CREATE INDEX IF NOT EXISTS flows_updated_at ON flows (updated_at);

CREATE TABLE IF NOT EXISTS events (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow_id  uuid NOT NULL,
    revision bigint NOT NULL,
    kind     text NOT NULL,
    payload  jsonb NOT NULL,
    actor    text NOT NULL,
    at       timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS events_flow ON events (flow_id, seq);
