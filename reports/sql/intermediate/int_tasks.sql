-- One row per task (one stage of one run) that the store knows.
-- run: key of its MLflow run in the staging models, a number where the store has numbers, so that joins are cheap.
-- planned: whether the study, as it is now, still has this task. Run, stage and seed of a planned task come from
-- the plan, so that a level that has been renamed is reported under its new name.
-- searched: whether the task belongs to a run that a search trained and that the study does not also plan.
-- A task tracked twice (its first MLflow run was orphaned by a crash) counts once: the finished one, or the newest.
with runs as (select * from stg_runs),

tags as (select * from stg_tags),

planned as (select * from src_planned),

searched as (
    select distinct tags.run_id
    from src_tags
    join tags using (run)
    where src_tags.key = 'ablate.trials'
),

joined as (
    select
        tags.task_id,
        coalesce(planned.run_id, tags.run_id) as run_id,
        coalesce(planned.stage, tags.stage) as stage,
        coalesce(planned.seed, tags.seed) as seed,
        tags.cells,
        tags.state,
        tags.cause,
        tags.commit,
        tags.sources,
        tags.origin,
        planned.task_id is not null as planned,
        planned.task_id is null and tags.run_id in (select run_id from searched) as searched,
        runs.started,
        runs.finished,
        runs.mlflow_run_id,
        runs.run
    from tags
    join runs using (run)
    left join planned using (task_id)
),

final as (
    select *
    from joined
    qualify row_number() over (
        partition by task_id
        order by coalesce(state in ('completed', 'diverged'), false) desc, started desc, mlflow_run_id
    ) = 1
)

select * from final
