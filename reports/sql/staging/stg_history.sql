-- One row per logged point of the metrics that are drawn over steps; values as in stg_metrics.
with source as (select * from src_history),

final as (
    select
        cast(run_uuid as varchar) as mlflow_run_id,
        cast(key as varchar) as metric,
        cast(step as bigint) as step,
        case
            when cast(is_nan as boolean) then 'nan'::double
            when abs(cast(value as double)) >= 1.797e308 then sign(cast(value as double)) * 'inf'::double
            else cast(value as double)
        end as value
    from source
)

select * from final
