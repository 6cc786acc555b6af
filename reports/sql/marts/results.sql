-- One row per cell, seed and metric: the final values of the study's finished tasks.
-- cell: JSON object factor -> level, factors in alphabetical order (cell->>'method' reads one); a task that two cells
-- share appears under both. run_id: the run that the value is of; task_id: the task that measured it.
-- commit: the code of that task, and before it that of the tasks that it rests on where that is other code.
with finished as (select * from int_finished),

metrics as (select * from stg_metrics),

owners as (select * from int_metrics),

final as (
    select
        finished.cell,
        finished.seed,
        finished.run_id,
        finished.task_id,
        metrics.metric,
        metrics.value,
        finished.commit
    from finished
    join metrics using (run)
    join owners using (metric)
    -- what other tasks cost is in the mart `cost`; here it would appear next to its run's
    where case when owners.costs then finished.opens else coalesce(owners.stage = finished.stage, true) end
)

select * from final
