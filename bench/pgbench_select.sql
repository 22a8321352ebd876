-- One flow by its key.
\set id random(1, :flows)
SELECT id, owner, status, current_step, state, revision, created_at, updated_at
FROM bench_single.flow
WHERE id = :id;
