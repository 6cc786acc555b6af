-- One row per cell, seed and metric, as in `results`, with a column for each factor in place of the cell (null where the
-- factor does not apply), and the unit (empty: none). In Python: `ablative.reports.results`.
select
    /* factors */
    results.seed,
    results.metric,
    results.value,
    coalesce(declared_metrics.unit, '') as unit,
    results.run_id
from results
left join declared_metrics using (metric)
