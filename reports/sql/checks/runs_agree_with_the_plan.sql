-- A task's tags agree with the plan: both are under one id, which is a hash, so a difference is a mix-up. A task that
-- does not depend on the seed carries that of the study that was first to run it.
with tags as (select * from stg_tags),

planned as (select * from src_planned),

final as (
    select tags.task_id, tags.run_id, planned.run_id as planned_run_id, tags.seed, planned.seed as planned_seed
    from tags
    join planned using (task_id)
    where
        tags.run_id is distinct from planned.run_id
        or (planned.seeded and tags.seed is distinct from planned.seed)
)

select * from final
