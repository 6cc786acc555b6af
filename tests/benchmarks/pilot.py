"""How many seeds decide a study's claims, from a pilot on other seeds: chance of a verdict, and minutes, by seeds.

python tests/benchmarks/pilot.py demo --home FOLDER --seeds 100 101 102 --minutes 8

The pilot's values are kept in a home of their own and are no part of the study: seeds that are chosen by their results
would make its intervals too narrow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ablative.reports.stats.compare import Effect
from ablative.reports.stats.decide import chance
from ablative.reports.store.results import open_results
from ablative.reports.verdicts.claim_runs import Judged, judge_claims
from ablative.study.home.paths import Home
from ablative.study.home.records import read_record
from ablative.study.plan.plan import Plan, make_plan

MOST = 8
"""Largest number of seeds that is looked at."""
CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--minutes", type=float, default=8)
    options = parser.parse_args()
    word = f"seeds={list(options.seeds)}".replace(" ", "")
    program = [sys.executable, "-c", "from ablative.study.cli import main; main()", "run", options.study, word]
    subprocess.run(program, check=True, env={**os.environ, "ABLATE_HOME": str(options.home)})
    plan = make_plan(options.study, (word,), home=Home(options.home))
    with open_results(plan) as results:
        claims = judge_claims(results)
    whole, by_seed = minutes(plan)
    print("chance of a verdict, if differences and spreads are as in the pilot (%)")
    print(f"{'claim':24} {'pilot':>26}", *(f"{n:>5}" for n in range(2, MOST + 1)))
    for claim in claims:
        print(line(claim))
    times = [whole + n * by_seed for n in range(2, MOST + 1)]
    print(f"{'minutes on two cores':51}", *(f"{time:5.1f}" for time in times))
    print(
        f"seeds within {options.minutes:g} minutes:",
        max((n for n in range(2, MOST + 1) if times[n - 2] <= options.minutes), default=0),
    )


def minutes(plan: Plan) -> tuple[float, float]:
    """Minutes on two cores of all that is done once, and of what each seed adds, as recorded."""
    spent = {True: 0.0, False: 0.0}
    for task in plan.tasks:
        record = read_record(task.paths(plan.home)) or {}
        spent[task.seeded] += float(record.get("seconds") or 0) / 60 / CORES
    return spent[False], spent[True] / len(plan.study.seeds)


def line(claim: Judged) -> str:
    """Estimate, standard error, and the chance with each number of seeds; the least of the claim's comparisons."""
    config, parts = claim.result.config, claim.result.parts
    effect = parts[0].effect
    shown = f"{effect.estimate:+.2f} (s.e. {effect.se:.2f}, {effect.df:.1f} df)" if effect.se and effect.df else "-"
    chances = [min(of(part.effect, part.sign, config.margin, n) for part in parts) for n in range(2, MOST + 1)]
    return " ".join([f"{claim.result.name:24} {shown:>26}", *(f"{100 * found:5.0f}" for found in chances)])


def of(effect: Effect, sign: str, margin: float, n: int) -> float:
    """The chance of equivalence where it is claimed, else of a difference, whatever its sign."""
    if effect.se is None or effect.df is None:
        return 0.0
    return chance(effect, margin if sign == "~" else None, n)


if __name__ == "__main__":
    main()
