-- One row per task (a pretraining, or one evaluation) that the store knows.
-- planned: whether the study, as it is now, still has this task. What a planned task stands for (its run, seed and
-- protocol) is taken from the plan, so that a level renamed since then is reported under its new name.
-- searched: whether it belongs to a run that a search trained, and is not one of the study's own besides.
-- A task tracked twice (its first MLflow run was orphaned by a crash) counts once: the finished one, or the newest.
with tasks as (select * from int_tasks),

final as (select * exclude (run) from tasks)

select * from final
