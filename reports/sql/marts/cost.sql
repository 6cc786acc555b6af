-- One row per task in the store: what it has used, whether or not it ended well or is still part of the study.
with runs as (select * from runs),

metrics as (select * from stg_metrics where metric like 'cost/%' and isfinite(value)),

spent as (
    select
        mlflow_run_id,
        max(value) filter (metric = 'cost/seconds') as seconds,
        max(value) filter (metric = 'cost/cpu_hours') as cpu_hours,
        max(value) filter (metric = 'cost/gpu_hours') as gpu_hours,
        max(value) filter (metric = 'cost/peak_memory_gib') as peak_memory_gib
    from metrics
    group by mlflow_run_id
),

final as (
    select
        runs.task_id,
        runs.run_id,
        runs.kind,
        runs.protocol,
        runs.state,
        runs.planned,
        spent.* exclude (mlflow_run_id)
    from runs
    join spent using (mlflow_run_id)
)

select * from final
