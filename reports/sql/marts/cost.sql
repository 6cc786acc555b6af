-- One row per task in the store: what it has used, whether or not it ended well or is still part of the study.
with tasks as (select * from int_tasks),

metrics as (select * from stg_metrics where metric like 'cost/%' and isfinite(value)),

spent as (
    select
        run,
        max(value) filter (metric = 'cost/seconds') as seconds,
        max(value) filter (metric = 'cost/cpu_hours') as cpu_hours,
        max(value) filter (metric = 'cost/gpu_hours') as gpu_hours,
        max(value) filter (metric = 'cost/peak_memory_gib') as peak_memory_gib
    from metrics
    group by run
),

final as (
    select
        tasks.task_id,
        tasks.run_id,
        tasks.kind,
        tasks.protocol,
        tasks.state,
        tasks.planned,
        spent.* exclude (run)
    from tasks
    join spent using (run)
)

select * from final
