-- One row per trial of a search and run that it trained (one for each of its seeds): how the trial ended, and what this
-- run gave it. arm_key: arms of one key compare, `arm` is the key's name for people. role: search, or repeat of one of
-- the best with another seed. parameters: JSON object of the searched keys. objectives: the goals' values on
-- the validation split, in the order of the study file; null where there are none (pruned, diverged, failed). seconds:
-- of the run and the stages that it was chosen by.
with tags as (select * from src_tags),

tasks as (select * from int_tasks),

entries as (
    select run, unnest(map_entries(cast(cast(value as json) as map(varchar, json)))) as entry
    from tags
    where key = 'ablate.trials'
),

final as (
    select
        split_part(entry.key, '.', 1) as arm_key,
        entry.value ->> 'arm' as arm,
        cast(split_part(entry.key, '.', 2) as bigint) as trial,
        entry.value ->> 'role' as role,
        tasks.seed,
        tasks.run_id,
        entry.value ->> 'state' as state,
        cast(entry.value ->> 'first' as boolean) as first,
        cast(entry.value -> 'values' as varchar) as parameters,
        cast(entry.value -> 'objectives' as double[]) as objectives,
        cast(entry.value ->> 'seconds' as double) as seconds
    from entries
    join tasks using (run)
)

select * from final
