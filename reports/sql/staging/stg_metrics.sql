-- One row per MLflow run and metric: its latest value. MLflow stores NaN as 0 with a flag, and the infinities
-- as the largest double; both are restored here.
with source as (select * from src_metrics),

final as (
    select
        run,
        key as metric,
        case
            when cast(is_nan as boolean) then 'nan'::double
            when abs(cast(value as double)) >= 1.797e308 then sign(cast(value as double)) * 'inf'::double
            else cast(value as double)
        end as value
    from source
)

select * from final
