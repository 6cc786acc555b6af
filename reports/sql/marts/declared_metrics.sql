-- One row per metric that the study's tasks may yield: the stage that yields it, its unit (empty: none), which values
-- are better (higher, lower, or empty: neither) and the bounds that it cannot leave (null: there is none).
with final as (select * from src_declared)

select * from final
