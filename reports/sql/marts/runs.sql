-- One row per task (one stage of one run) that the store knows.
-- planned: whether the study, as it is now, still has this task. Run, stage and seed of a planned task come from
-- the plan, so that a level that has been renamed is reported under its new name.
-- searched: whether the task belongs to a run that a search trained and that the study does not also plan.
-- kind, protocol: what stage and run_id say, as queries of early versions have it.
-- origin: where a result lies that existed already; null for what has run here.
-- A task tracked twice (its first MLflow run was orphaned by a crash) counts once: the finished one, or the newest.
with tasks as (select * from int_tasks),

final as (
    select
        * exclude (run),
        case when task_id = run_id then 'pretrain' else 'evaluate' end as kind,
        case when task_id <> run_id then stage end as protocol
    from tasks
)

select * from final
