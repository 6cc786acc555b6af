-- Two values for one number: the mean over seeds would count a seed twice.
with results as (select * from results),

final as (
    select cell, seed, metric, count(*) as found
    from results
    group by cell, seed, metric
    having count(*) > 1
)

select * from final
