"""What a study declares, made from its results: one table, number or claim by its name, or all of a kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ablative.reports.provenance.existing_marks import mark_existing
from ablative.reports.provenance.finding_inputs import collect_facts
from ablative.reports.provenance.findings import Finding, cells_used, find, mark
from ablative.reports.provenance.partial_marks import mark_partial
from ablative.reports.store.results import Results, open_results
from ablative.reports.tables.grid_tables import build_tables
from ablative.reports.tables.tables import Table
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.outputs import QueryConfig, TableConfig

if TYPE_CHECKING:
    from ablative.reports.provenance.numbers import Numbers
    from ablative.reports.provenance.why import Answer
    from ablative.reports.verdicts.claim_runs import Judged
    from ablative.study.plan.plan import Plan


def one_number(plan: Plan, name: str, row: str, column: str, pending: int = 0) -> tuple[Answer, Numbers]:
    """A single number of a table, and it alone as `numbers.json` has it; raises ConfigError for names not there."""
    from ablative.reports.provenance.number_keys import table_keys
    from ablative.reports.provenance.numbers import collect_numbers
    from ablative.reports.provenance.why import find as find_number

    with open_results(plan) as results:
        table = declared_table(results, name)
        findings = findings_of(results, (table,), (), pending)
        [table] = marked((table,), results, findings)
        answer = find_number(table, row, column)
        keys = table_keys(plan.study.name, table)[table.rows.index(answer.row)]
        key = keys[table.columns.index(answer.column)]
        return answer, collect_numbers(results, (table,), (), findings, only=key)


def one_claim(plan: Plan, name: str) -> Judged:
    """A single claim; raises ConfigError for a name that the study does not declare."""
    from ablative.reports.verdicts.claim_runs import judge_claims

    if name not in plan.study.claims:
        known = [*plan.study.tables, *plan.study.claims]
        raise ConfigError(unknown("table or claim", name, known, f"study '{plan.study.name}'"))
    with open_results(plan) as results:
        [claim] = judge_claims(results, (name,))
        if claim.broken:
            raise ConfigError(claim.broken)
        return claim


def declared_table(results: Results, name: str) -> Table:
    """A single table, of effects and of a query too; raises ConfigError for a name that the study does not declare."""
    study = results.study
    if name in study.effects:
        return effects_of(results, (name,))[0]
    if name in study.queries:
        return queries_of(results, {name: study.queries[name]})[0]
    if name not in study.tables:
        known = [*study.tables, *study.effects, *study.queries]
        raise ConfigError(unknown("table", name, known, f"study '{study.name}'"))
    [table] = tables_of(results, {name: study.tables[name]})
    return table


def tables_of(results: Results, configs: Mapping[str, TableConfig]) -> tuple[Table, ...]:
    """Tables of a study's cells, with the paper's values next to ours where they are asked for."""
    tables = build_tables(configs, results)
    if not any(config.reference for config in configs.values()):
        return tables
    from ablative.reports.reference.comparison import with_reference

    return tuple(with_reference(table, configs[table.name]) for table in tables)


def effects_of(results: Results, names: Collection[str]) -> tuple[Table, ...]:
    """Tables of effects."""
    if not names:
        return ()
    from ablative.reports.tables.effects import effects_tables

    return effects_tables(results, names)


def queries_of(results: Results, configs: Mapping[str, QueryConfig]) -> tuple[Table, ...]:
    """Tables of the study's queries."""
    if not configs:
        return ()
    from ablative.reports.tables.query_tables import query_tables

    return query_tables(configs, results)


def findings_of(
    results: Results, tables: Sequence[Table], claims: Sequence[Judged], pending: int = 0, thorough: bool = False
) -> tuple[Finding, ...]:
    """What keeps outputs from being final; the arguments are those of `collect_facts`."""
    facts = collect_facts(results, pending, thorough=thorough)
    return find(results.plan.asked, cells_used(results.plan, tables, claims), results.coverage, facts)


def marked(tables: tuple[Table, ...], results: Results, findings: Sequence[Finding]) -> tuple[Table, ...]:
    """The tables with the signs of what their numbers lack, and where some come from."""
    return mark(mark_partial(mark_existing(tables, results), results), findings)
