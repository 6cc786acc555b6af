-- Hours and seconds only add up.
with cost as (select * from cost),

final as (
    select task_id, seconds, cpu_hours, gpu_hours
    from cost
    where least(coalesce(seconds, 0), coalesce(cpu_hours, 0), coalesce(gpu_hours, 0)) < 0
)

select * from final
