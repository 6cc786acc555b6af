-- One row per MLflow run that is ours (it carries a task id), its tags as columns.
-- `commit` reads like `git describe --dirty`: a number that came from edited code says so.
with source as (select * from src_tags),

pivoted as (
    select
        run,
        max(value) filter (key = 'ablate.task_id') as task_id,
        max(value) filter (key = 'ablate.run_id') as run_id,
        max(value) filter (key = 'ablate.kind') as kind,
        max(value) filter (key = 'ablate.protocol') as protocol,
        try_cast(max(value) filter (key = 'ablate.seed') as bigint) as seed,
        max(value) filter (key = 'ablate.cells') as cells,
        max(value) filter (key = 'ablate.state') as state,
        max(value) filter (key = 'ablate.cause') as cause,
        max(value) filter (key = 'ablate.commit') as clean_commit,
        max(value) filter (key = 'ablate.dirty') as dirty
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
