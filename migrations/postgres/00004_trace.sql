-- +goose Up

-- The W3C traceparent of the request that made a change or published an external event; null where it has none. The release
-- before writes neither, and reads neither.
alter table events add column if not exists traceparent text collate "C";
alter table external_events add column if not exists traceparent text collate "C";

-- +goose Down

alter table external_events drop column if exists traceparent;
alter table events drop column if exists traceparent;
