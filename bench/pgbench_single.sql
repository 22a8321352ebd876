-- One change in one statement: the flow and its audit event. The merge is done by the database.
\set id random(1, :flows)
\set progress random(0, 999999)
WITH changed AS (
    UPDATE bench_single.flow
    SET state = state || jsonb_build_object('progress', :progress::int, 'phase', 'collect', 'note', 'closed loop'),
        revision = revision + 1,
        updated_at = clock_timestamp()
    WHERE id = :id
    RETURNING id, revision, updated_at
)
INSERT INTO bench_single.event (flow_id, revision, kind, payload, actor, at)
SELECT id, revision, 'state_updated',
       jsonb_build_object('patch', jsonb_build_object('progress', :progress::int, 'phase', 'collect', 'note', 'closed loop')),
       'anonymous', updated_at
FROM changed;
