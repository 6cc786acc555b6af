"""Results from Python: pandas frames with a column for each factor, seed, metric and unit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.declared import declared_table
from ablative.reports.store.factor_columns import factor_columns
from ablative.reports.store.results import Results, open_results
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan
from ablative.study.syntax.metric_patterns import expand

if TYPE_CHECKING:
    import contextlib

    import pandas


def results(
    study: str, *words: str, config_dir: str | Path | None = None, home: str | Path | None = None
) -> pandas.DataFrame:
    """One row for each cell, seed and metric: a column for each factor, `seed`, `metric`, `value`, `unit`, `run_id`.

    Args:
        study: name of a study, or path of its file.
        words: `key=value`, as on the command line.
        config_dir: your config folder, as `--config-dir`.
        home: folder of the runs; by default `$ABLATE_HOME`.

    Raises:
        AblateError: what the command line says in one line.
    """
    with _opened(study, words, config_dir, home) as found:
        rows = found.warehouse.rows(
            "select cell, seed, metric, value, run_id from results order by cell, metric, seed, run_id"
        )
        unit = found.coverage.measures.metric
        return _frame(
            found, [(cell, (seed, name, value, unit(name).unit, run)) for cell, seed, name, value, run in rows]
        )


def curves(
    study: str, metric: str, *words: str, config_dir: str | Path | None = None, home: str | Path | None = None
) -> pandas.DataFrame:
    """One row for each logged step of a metric (or of those that a pattern means), with `step` in place of
    `run_id`; the arguments are those of `results`."""
    with _opened(study, words, config_dir, home) as found:
        names = expand(metric, sorted(found.coverage.measures.declared))
        if not names:
            raise ConfigError(unknown("metric", metric, found.coverage.measures.declared, f"study '{study}'"))
        unit = found.coverage.measures.metric
        rows = found.warehouse.curves(names)
        return _frame(
            found,
            [(cell, (seed, name, value, unit(name).unit, step)) for cell, seed, name, step, value in rows],
            "step",
        )


def table(
    study: str, name: str, *words: str, config_dir: str | Path | None = None, home: str | Path | None = None
) -> pandas.DataFrame:
    """One row for each number of a declared table: a column for each factor of its rows, `column`, `mean`, `sd`, `n`,
    and the difference to the baseline (`delta`, `delta_low`, `delta_high`); NaN where there is no number, and `state`
    says why. The other arguments are those of `results`."""
    import pandas

    with _opened(study, words, config_dir, home) as found:
        printed = declared_table(found, name)
        rows = [
            {
                **dict(zip(printed.factors, row.levels, strict=True)),
                "column": column.name,
                "mean": entry.summary.mean if entry.summary else None,
                "sd": entry.summary.sd if entry.summary else None,
                "n": entry.summary.n if entry.summary else 0,
                "delta": entry.delta,
                "delta_low": entry.error.low if entry.error else None,
                "delta_high": entry.error.high if entry.error else None,
                "best": entry.best,
                "unit": found.coverage.measures.unit(column.metrics),
                "state": entry.missing,
            }
            for row in printed.rows
            for entry, column in zip(row.entries, printed.columns, strict=True)
        ]
        numbers = ("mean", "sd", "delta", "delta_low", "delta_high")
        return pandas.DataFrame(rows).astype(dict.fromkeys(numbers, "float64")) if rows else pandas.DataFrame()


def claims(
    study: str, *words: str, config_dir: str | Path | None = None, home: str | Path | None = None
) -> pandas.DataFrame:
    """One row for each comparison of each claim: `claim`, `text`, `verdict`, `comparison`, `task`, `effect`, `low`,
    `high`, `p`, `unit`; the arguments are those of `results`."""
    import pandas

    from ablative.reports.verdicts.claim_runs import judge_claims

    with _opened(study, words, config_dir, home) as found:
        rows = [
            {
                "claim": judged.result.name,
                "text": judged.result.text,
                "verdict": judged.result.verdict,
                "comparison": part.text,
                "task": part.task,
                "effect": None if part.agrees is None else part.effect.estimate,
                "low": part.effect.low,
                "high": part.effect.high,
                "p": part.effect.p,
                "unit": judged.unit,
            }
            for judged in judge_claims(found)
            for part in judged.result.parts
        ]
        return pandas.DataFrame(rows)


def _opened(
    study: str, words: Sequence[str], config_dir: str | Path | None, home: str | Path | None
) -> contextlib.AbstractContextManager[Results]:
    folder = None if config_dir is None else str(config_dir)
    where = None if home is None else Home(Path(home))
    return open_results(make_plan(study, words, folder, where, read_data=True))


def _frame(found: Results, rows: Sequence[tuple[str, tuple[object, ...]]], last: str = "run_id") -> pandas.DataFrame:
    """A frame of rows, each with the key of its cell and the values of the other columns."""
    import pandas

    factors = list(found.study.factors)
    cells: dict[str, Mapping[str, str]] = {key: json.loads(key) for key in {cell for cell, _ in rows}}
    data = [(*(cells[cell].get(factor) for factor in factors), *values) for cell, values in rows]
    names = factor_columns(factors).values()
    return pandas.DataFrame(data, columns=[*names, "seed", "metric", "value", "unit", last])
