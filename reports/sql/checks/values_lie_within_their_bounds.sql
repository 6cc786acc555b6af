-- No value lies outside of the bounds that its metric is declared with; NaN is a result, too (diverged).
with results as (select * from results where not isnan(value)),

declared as (
    select
        metric,
        low,
        high,
        -- of the range, for rounding; where one end is open, of the other
        1e-6 * coalesce(high - low, greatest(1, abs(coalesce(low, high)))) as slack
    from declared_metrics
    where low is not null or high is not null
),

final as (
    select results.cell, results.seed, results.metric, results.value, declared.low, declared.high
    from results
    join declared using (metric)
    where results.value < declared.low - declared.slack or results.value > declared.high + declared.slack
)

select * from final
