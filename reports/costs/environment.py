"""On what code, machines and versions a study's tasks have run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ablative.reports.store.results import Results
from ablative.study.home.task_state import FINISHED

EnvironmentCounts = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""Fact (`code`, `device`, `host`, `python`, a package) -> its values and how many tasks had each."""


OTHERS = ("code", "device", "host", "python")
NAMED = ("ablate", "torch", "jax", "tensorflow", "numpy", "scikit-learn", "transformers", "lightning", "hydra-core")
"""Packages that are named among many."""
MANY = 16
"""The most facts that are all named."""


def environment_counts(results: Results) -> EnvironmentCounts:
    """Commits from the store; machines and versions from the records of the tasks that ran in this home."""
    facts: dict[str, Counter[str]] = {"code": Counter(dict(results.warehouse.rows(_COMMITS)))}
    for state in results.coverage.states.values():
        if state.state in FINISHED and (environment := results.environment(state.task)):
            for name, value in _flat(environment):
                facts.setdefault(name, Counter())[value] += 1
    facts = brief(facts)
    return tuple((name, tuple(sorted(counter.items()))) for name, counter in facts.items() if counter)


def brief(facts: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Leave out packages that are the same for all tasks, where these are many; the known ones stay."""
    if len(facts) <= MANY:
        return facts
    kept = {name: found for name, found in facts.items() if name in (*OTHERS, *NAMED) or len(found) > 1}
    return {**kept, "further packages": Counter({f"{len(facts) - len(kept)}, each of one version": 1})}


def _flat(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = [(name, str(environment[name])) for name in ("device", "host", "python") if environment.get(name)]
    return shown + [(name, str(version)) for name, version in sorted((environment.get("packages") or {}).items())]


_COMMITS = "select commit, count(*) from runs where planned group by commit order by commit"
