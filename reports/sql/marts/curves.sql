-- One row per cell, seed, metric and step, of tasks in any state. A resumed run may report a step twice with the
-- same value; it is kept once.
with runs as (select * from runs where planned),

history as (select * from stg_history),

cells as (select * from src_cells),

final as (
    select
        cells.cell,
        runs.seed,
        runs.run_id,
        history.metric,
        history.step,
        any_value(history.value) as value
    from history
    join runs using (mlflow_run_id)
    join cells using (task_id)
    group by all
)

select * from final
