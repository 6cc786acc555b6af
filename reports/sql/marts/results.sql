-- One row per cell, seed and metric: the final values of the study's finished tasks.
-- cell: JSON object factor -> level, factors in alphabetical order (cell->>'method' reads one); a run that two cells
-- share appears under both. run_id: the pretraining behind the value; task_id: the task that measured it.
-- commit: the code of that pretraining, and after a space that of the evaluation where it is another.
-- Tasks that still run are left out: an average over half of the data sets is no result.
with runs as (select * from runs),

metrics as (select * from stg_metrics),

cells as (select * from src_cells),

finished as (
    select *
    from runs
    where planned and state in ('completed', 'diverged')
),

with_code as (
    select
        finished.* exclude (commit),
        case
            when trained.commit is null or trained.commit = finished.commit then finished.commit
            else trained.commit || ' ' || finished.commit
        end as commit
    from finished
    left join runs as trained on trained.task_id = finished.run_id
),

final as (
    select
        cells.cell,
        with_code.seed,
        with_code.run_id,
        with_code.task_id,
        metrics.metric,
        metrics.value,
        with_code.commit
    from with_code
    join metrics using (mlflow_run_id)
    join cells using (run_id)
    -- what an evaluation cost is in the mart `cost`; here it would stand beside its run's
    where with_code.kind = 'pretrain' or metrics.metric not like 'cost/%'
)

select * from final
