-- One row per cell, seed and metric: the final values of the study's finished tasks.
-- cell: JSON object factor -> level, factors in alphabetical order (cell->>'method' reads one); a run that two cells
-- share appears under both. run_id: the pretraining behind the value; task_id: the task that measured it.
-- commit: the code of that pretraining, and after a space that of the evaluation where it is another.
with finished as (select * from int_finished),

metrics as (select * from stg_metrics),

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
    -- what an evaluation cost is in the mart `cost`; here it would appear next to its run's
    where finished.pretrains or metrics.metric not like 'cost/%'
)

select * from final
