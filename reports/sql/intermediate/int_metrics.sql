-- One row per metric name in the store: whose values count, since tracking copies metrics to the task that opens a run.
-- stage: the one that the study's trainer declares for it; of a metric that is not declared, the one that its name
-- begins with, or null: any task's. costs: it counts from the task that opens a run, whatever it is declared for.
with names as (select distinct metric from stg_metrics),

declared as (select * from src_declared),

-- of the store, too: a copied metric of a stage that the study has no more is not its owner's
stages as (select stage from src_planned union select stage from stg_tags),

final as (
    select
        names.metric,
        names.metric like 'cost/%' as costs,
        coalesce(declared.stage, stages.stage) as stage
    from names
    left join declared using (metric)
    left join stages on stages.stage = split_part(names.metric, '/', 1)
)

select * from final
