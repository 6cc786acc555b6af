-- Every <protocol>/<dataset>/<metric> is in percent; NaN is a result, too (diverged).
with results as (select * from results where metric like '%/%/%' and not isnan(value)),

final as (
    select cell, seed, metric, value
    from results
    where value not between -1e-6 and 100 + 1e-6 -- rounding
)

select * from final
