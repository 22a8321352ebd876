-- The W3C traceparent of the request that made a change or published an external event; NULL where it has none. The release
-- before writes neither, and reads neither.

-- +goose Up

ALTER TABLE events ADD COLUMN traceparent TEXT;
ALTER TABLE external_events ADD COLUMN traceparent TEXT;

-- +goose Down

ALTER TABLE external_events DROP COLUMN traceparent;
ALTER TABLE events DROP COLUMN traceparent;
