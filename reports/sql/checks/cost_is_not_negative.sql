-- Hours and seconds are not negative, and the wasted ones are part of them.
with cost as (select * from cost),

final as (
    select task_id, seconds, cpu_hours, gpu_hours, clock_seconds, wasted_seconds
    from cost
    where
        least(coalesce(seconds, 0), coalesce(cpu_hours, 0), coalesce(gpu_hours, 0), coalesce(wasted_seconds, 0)) < 0
        or wasted_seconds > clock_seconds
)

select * from final
