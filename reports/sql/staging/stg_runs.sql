-- One row per MLflow run of the experiment (deleted ones are left out when the store is read); times in UTC.
with source as (select * from src_runs),

final as (
    select
        run,
        run_uuid as mlflow_run_id,
        epoch_ms(cast(start_time as bigint)) as started,
        epoch_ms(cast(end_time as bigint)) as finished
    from source
)

select * from final
