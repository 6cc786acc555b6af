-- One row per finished task of the study and cell that it belongs to: the columns that all of its results share.
-- Tasks that still run are left out, because an average over half of the data sets is no result.
with tasks as (select * from int_tasks),

cells as (select * from src_cells),

finished as (
    select *
    from tasks
    where planned and state in ('completed', 'diverged')
),

final as (
    select
        finished.run,
        cells.cell,
        finished.seed,
        finished.run_id,
        finished.task_id,
        finished.kind = 'pretrain' as pretrains,
        case
            when trained.commit is null or trained.commit = finished.commit then finished.commit
            else trained.commit || ' ' || finished.commit
        end as commit
    from finished
    join cells using (run_id)
    left join tasks as trained on trained.task_id = finished.run_id
)

select * from final
