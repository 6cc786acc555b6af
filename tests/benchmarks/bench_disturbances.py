"""Everything that goes wrong with jobs on a real SLURM of its own, one disturbance at a time: what was tried, what was
done, and whether anything was lost or done twice. Each row is a test, which also checks what `status` says meanwhile.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablative.study.core.files import read_json
from ablative.study.home.paths import Home

ROOT = Path(__file__).parents[2]
STEP_SECONDS = 0.005
"""Of the tests' tasks."""


def disturbances() -> list[tuple[str, Callable[..., None]]]:
    """(what happens, the test that does it)."""
    import test_slurm as plain
    import test_slurm_causes as causes

    return [
        ("`scontrol requeue`; warning signal", plain.test_a_requeued_element_goes_on_from_its_checkpoint),
        ("preemption", causes.test_preempted_runs_save_and_go_on_when_there_is_room),
        ("`scancel`; `kill -9`", plain.test_a_cancelled_element_and_a_killed_one_are_submitted_again),
        ("node dies; node set down", causes.test_a_node_that_dies_and_one_that_is_set_down),
        ("slurmctld away", plain.test_while_the_controller_is_away_nothing_wrong_is_said_and_nothing_is_lost),
        ("slurmctld forgets everything", plain.test_a_controller_that_forgot_everything),
        ("job over its memory", causes.test_a_job_over_its_memory_is_tried_with_half_the_micro_batch),
        ("disk full", causes.test_a_full_disk_is_told_where_it_can_be_and_forgotten_when_there_is_room),
        ("submitter killed", plain.test_a_submitter_killed_after_sbatch_and_before_its_bookkeeping),
        ("two submitters", plain.test_two_submitters_at_once_do_everything_once),
        ("source edited", causes.test_editing_the_source_while_elements_wait_changes_nothing),
        ("time limit (beside the others)", causes.test_a_run_longer_than_its_time_limit_goes_on_until_it_is_done),
    ]


def row(name: str, test: Callable[..., None], given: dict[str, Any]) -> bool:
    """Run one disturbance and print what came of it; whether all went well."""
    begin = time.monotonic()
    try:
        test(**{key: given[key] for key in inspect.signature(test).parameters})
        verdict = "ok"
    except AssertionError as error:
        verdict = f"FAILED: {error}".partition("\n")[0]
    home = given["late"].home if "late" in inspect.signature(test).parameters else given["home"]
    seconds = time.monotonic() - begin
    print(f"{name:36} {_counts(home)} {seconds:6.0f}  {verdict}", flush=True)
    return verdict == "ok"


def _counts(home: Home) -> str:
    """Tasks with a record, attempts, tasks done more than once, and steps of all runs: done and wanted."""
    from fakes import events

    records = len(list(home.root.rglob("record.json")))
    found = Counter(events(home))
    begun = sum(count for (event, _), count in found.items() if event == "begin")
    twice = sum(count > 1 for (event, _), count in found.items() if event == "done")
    runs = list(home.root.glob("runs/*/progress"))
    behaviours = read_json(home.root / "behaviour.json") or {}
    given = [behaviours.get(run.parent.name) or behaviours.get("pretrain", ["work", 0]) for run in runs]
    wanted = sum(round(seconds / STEP_SECONDS) for _, seconds in given)
    steps = f"{sum(run.stat().st_size for run in runs)} of {wanted}" if runs else "–"
    return f"{records:7} {begun or '–':>8} {twice:6} {steps:>13}"


def main() -> None:
    # The root first: `tests/study` is no package of ours.
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "sweeps")]
    import test_slurm_causes as causes
    from fakes import FAKE, HERE
    from slurm_world import CannotMountError, scheduler, small_disk

    from ablative.sweeps.submission.submit import submit

    os.environ["PYTHONPATH"] = str(HERE)
    well = []
    with tempfile.TemporaryDirectory() as name, scheduler(Path(name) / "slurm") as world:
        folder = Path(name)
        late = causes.late_plan(Home(folder / "late"))
        submit(late, code=FAKE)
        print(f"{'disturbance':36} records attempts  twice         steps      s")
        for number, (what, test) in enumerate(disturbances()):
            place = folder / str(number)
            place.mkdir()
            given = {"home": Home(place / "home"), "world": world, "late": late, "tmp_path": place}
            if "small" not in inspect.signature(test).parameters:
                well.append(row(what, test, given))
            else:
                try:
                    with small_disk(place / "disk") as small:
                        home = Home(small / "home")
                        well.append(row(what, test, {**given, "home": home, "small": small}))
                        causes.clear(late)
                except CannotMountError as error:
                    print(f"{what:36} not tried: {error}")
            causes.clear(late)
    sys.exit(not all(well))


if __name__ == "__main__":
    main()
