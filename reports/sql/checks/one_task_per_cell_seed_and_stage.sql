-- Two finished tasks for one stage of a cell and seed: a mean over seeds would count that seed twice.
with finished as (select * from int_finished),

final as (
    select cell, seed, stage, count(*) as found
    from finished
    group by all
    having count(*) > 1
)

select * from final
