-- One row per task in the store: what it has used, whether or not it ended well or is still part of the study.
-- seconds, cpu_hours, gpu_hours: of the work that led to its result. clock_seconds: wall-clock time of all its attempts,
-- of which wasted_seconds led to nothing, on so many gpus and cores; queue_seconds: time in a scheduler's queue.
-- kind, protocol: what stage and run_id say, as queries of early versions have it.
with tasks as (select * from int_tasks),

tags as (select * from stg_tags),

metrics as (select * from stg_metrics where metric like 'cost/%' and isfinite(value)),

spent as (
    select
        run,
        max(value) filter (metric = 'cost/seconds') as seconds,
        max(value) filter (metric = 'cost/cpu_hours') as cpu_hours,
        max(value) filter (metric = 'cost/gpu_hours') as gpu_hours,
        max(value) filter (metric = 'cost/peak_memory_gib') as peak_memory_gib,
        max(value) filter (metric = 'cost/flops_utilisation') as flops_utilisation
    from metrics
    group by run
),

final as (
    select
        tasks.task_id,
        tasks.run_id,
        tasks.stage,
        case when tasks.task_id = tasks.run_id then 'pretrain' else 'evaluate' end as kind,
        case when tasks.task_id <> tasks.run_id then tasks.stage end as protocol,
        tasks.state,
        tasks.planned,
        tasks.searched,
        spent.* exclude (run),
        tags.device,
        tags.gpus,
        tags.cores,
        tags.clock_seconds,
        tags.wasted_seconds,
        tags.queue_seconds
    from tasks
    join tags using (run)
    left join spent using (run)
    where spent.run is not null or tags.clock_seconds is not null
)

select * from final
