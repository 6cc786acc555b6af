-- One row per finished task of the study and cell that it belongs to: the columns that all of its results share.
-- Tasks that still run are left out, because an average over half of the data sets is no result.
with tasks as (select * from int_tasks),

cells as (select * from src_cells),

planned as (select * from src_planned),

needs as (select * from src_needs),

finished as (
    select *
    from tasks
    where planned and state in ('completed', 'diverged')
),

-- code of what a task rests on, where that is other code than its own
rested as (
    select finished.task_id, string_agg(distinct needed.commit, ' ' order by needed.commit) as commits
    from finished
    join needs using (task_id)
    join tasks as needed on needed.task_id = needs.need
    where needed.commit <> finished.commit
    group by finished.task_id
),

final as (
    select
        finished.run,
        cells.cell,
        finished.seed,
        finished.run_id,
        finished.task_id,
        finished.stage,
        planned.opens,
        concat_ws(' ', rested.commits, finished.commit) as commit
    from finished
    join planned using (task_id)
    join cells using (task_id)
    left join rested using (task_id)
)

select * from final
