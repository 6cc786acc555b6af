-- One row per task (a pretraining, or one evaluation) that the store knows.
-- planned: whether the study, as it is now, still has this task. Run, seed and protocol of a planned task come from
-- the plan, so that a level that has been renamed is reported under its new name.
-- searched: whether the task belongs to a run that a search trained and that the study does not also plan.
-- A task tracked twice (its first MLflow run was orphaned by a crash) counts once: the finished one, or the newest.
with tasks as (select * from int_tasks),

final as (select * exclude (run) from tasks)

select * from final
