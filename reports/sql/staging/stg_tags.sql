-- One row per MLflow run that is ours (it carries a task id), its tags as columns.
-- stage: stores of 0.1.0 have the protocol of an evaluation instead, and nothing where a run was trained.
-- `commit` reads like `git describe --dirty`: a number that came from edited code says so. sources: hash of the
-- trainer's own code, where the trainer comes from elsewhere. origin: where a result lies that existed already.
with source as (select * from src_tags),

pivoted as (
    select
        run,
        max(value) filter (key = 'ablate.task_id') as task_id,
        max(value) filter (key = 'ablate.run_id') as run_id,
        coalesce(
            max(value) filter (key = 'ablate.stage'),
            nullif(max(value) filter (key = 'ablate.protocol'), ''),
            'train'
        ) as stage,
        try_cast(max(value) filter (key = 'ablate.seed') as bigint) as seed,
        max(value) filter (key = 'ablate.cells') as cells,
        max(value) filter (key = 'ablate.state') as state,
        max(value) filter (key = 'ablate.cause') as cause,
        max(value) filter (key = 'ablate.commit') as clean_commit,
        max(value) filter (key = 'ablate.dirty') as dirty,
        max(value) filter (key = 'ablate.sources') as sources,
        max(value) filter (key = 'ablate.origin') as origin,
        max(value) filter (key = 'ablate.device') as device,
        try_cast(max(value) filter (key = 'ablate.gpus') as bigint) as gpus,
        try_cast(max(value) filter (key = 'ablate.cores') as bigint) as cores,
        try_cast(max(value) filter (key = 'ablate.seconds') as double) as clock_seconds,
        try_cast(max(value) filter (key = 'ablate.seconds_wasted') as double) as wasted_seconds,
        try_cast(max(value) filter (key = 'ablate.scheduler.queue_seconds') as double) as queue_seconds
    from source
    group by run
),

final as (
    select
        * exclude (clean_commit, dirty),
        coalesce(clean_commit, 'unknown') || case when dirty in ('1', 'true', 'True') then '-dirty' else '' end as commit
    from pivoted
    where task_id is not null
)

select * from final
