-- Two finished tasks for one stage (the pretraining, or a protocol) of a cell and seed: a mean over seeds would
-- count that seed twice.
with runs as (select * from runs where planned and state in ('completed', 'diverged')),

cells as (select * from src_cells),

final as (
    select cells.cell, runs.seed, coalesce(runs.protocol, 'pretraining') as stage, count(*) as found
    from runs
    join cells using (run_id)
    group by all
    having count(*) > 1
)

select * from final
