"""Workers: every way in which a task can end, who goes on, and that every task is done once."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import done, evaluation, events, run_task, start_worker, submission, wait_for

from ablative.study.core.extras import sentence
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import leases, manifest
from ablative.sweeps.worker.worker import FINISH_SECONDS


def finish(home: Home, tasks: list[TaskRef], behaviours: dict[str, Any]) -> None:
    """Run one worker to its end."""
    assert start_worker(home, submission(home, tasks, behaviours)).wait(30) == 0


def failure(home: Home, run_id: str) -> dict[str, Any]:
    found = read_json(home.run(run_id).failure)
    assert found is not None
    return dict(found)


CASES = {
    "fail": ("code", "ValueError"),
    "bad_data": ("data", "DataError"),
    "no_memory": ("out of memory", "MemoryError"),
    "torch_out_of_memory": ("out of memory", "OutOfMemoryError"),
    "full_disk": ("disk", "OSError"),
    "wrapped_full_disk": ("disk", "RuntimeError"),
    "segfault": ("code", "SIGSEGV"),
    "killed": ("killed", "SIGKILL"),
    "leave": ("code", "exit 0"),
    "long_message": ("code", "ValueError"),
}


def test_every_end_is_told_by_its_cause_and_the_worker_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tasks = [run_task(name) for name in CASES]
    finish(home, [*tasks, run_task("last")], {name: [name, 0] for name in CASES})
    found = {name: (failure(home, name)["cause"], failure(home, name)["type"]) for name in CASES}
    assert found == CASES
    assert home.run("last").record.exists()
    assert not any(home.run(name).lease.exists() for name in CASES)
    details = failure(home, "fail")
    assert "in fail\n" in details["traceback"] and details["snapshot"] == "abc" and details["time"]
    assert "this is fail" in home.run("fail").log.read_text()
    assert "ValueError: wrong at" in home.run("fail").log.read_text()
    assert len(failure(home, "long_message")["message"]) < 10_000


def test_the_fingerprint_is_the_place_and_not_the_message(tmp_path: Path) -> None:
    home = Home(tmp_path)
    behaviours = {"a": ["fail", 0], "b": ["fail", 0], "c": ["fail_elsewhere", 0], "d": ["bad_data", 0]}
    finish(home, [run_task(name) for name in behaviours], behaviours)
    prints = {name: failure(home, name)["fingerprint"] for name in behaviours}
    assert failure(home, "a")["message"] != failure(home, "b")["message"]
    assert prints["a"] == prints["b"]
    assert len({prints["a"], prints["c"], prints["d"]}) == 3


def test_three_identical_failures_of_the_code_stop_the_rest(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = ["a", "b", "c", "d", "e"]
    paths = submission(home, [run_task(name) for name in names], {name: ["fail", 0] for name in names})
    assert start_worker(home, paths).wait(30) == 0
    assert [name for name in names if home.run(name).failure.exists()] == ["a", "b", "c"]
    stopped = read_json(paths.stopped)
    assert stopped is not None and stopped["fingerprint"] == failure(home, "a")["fingerprint"]
    assert "ValueError" in stopped["reason"]


def test_a_job_without_the_training_extra_names_it_in_each_failure(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = ["a", "b", "c", "d"]
    paths = submission(home, [run_task(name) for name in names], {})
    queue = manifest.read(paths)
    assert queue is not None
    dataclasses.replace(queue, entry="lacking_tasks:execute").write(paths)
    assert start_worker(home, paths).wait(30) == 0
    found = [failure(home, name) for name in names if home.run(name).failure.exists()]
    assert [(one["cause"], one["message"]) for one in found] == [("code", sentence("clip"))] * 3
    stopped = read_json(paths.stopped)
    assert stopped is not None and sentence("clip") in stopped["reason"]
    assert "Traceback" not in (paths.root / "worker0.log").read_text()


def test_evaluations_follow_their_runs_in_plan_order(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tasks = [run_task("good"), run_task("nan"), run_task("bad"), run_task("broken")]
    tasks += [evaluation(f"of_{name}", name) for name in ("good", "nan", "bad", "absent")]
    finish(home, tasks, {"bad": ["fail", 0], "broken": ["killed", 0], "nan": ["diverge", 0]})
    assert list(done(home)) == ["good", "nan", "of_good", "of_nan"]
    assert not evaluation("of_bad", "bad").paths(home).failure.exists()


def test_what_is_done_failed_or_cancelled_is_not_begun(tmp_path: Path) -> None:
    home = Home(tmp_path)
    paths = submission(home, [run_task(name) for name in ("done", "failed", "cancelled", "open")], {})
    home.run("done").record.write_text('{"state": "completed"}')
    home.run("failed").failure.write_text('{"cause": "code", "fingerprint": ""}')
    home.run("cancelled").cancelled.touch()
    assert start_worker(home, paths).wait(30) == 0
    assert events(home) == [("begin", "open"), ("done", "open")]


def test_a_cancelled_task_is_killed_while_it_runs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    paths = submission(home, [run_task("long"), run_task("next")], {"long": ["deaf", 60]})
    worker = start_worker(home, paths)
    wait_for(lambda: ("begin", "long") in events(home))
    home.run("long").cancelled.touch()
    assert worker.wait(30) == 0
    assert failure(home, "long")["cause"] == "cancelled"
    assert home.run("next").record.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_stop_signal_lets_the_run_save_and_begins_nothing_else(tmp_path: Path, number: int) -> None:
    home = Home(tmp_path)
    paths = submission(home, [run_task("first"), run_task("second")], {"first": ["work", 60]})
    worker = start_worker(home, paths)
    wait_for((home.run("first").root / "progress").exists)
    worker.send_signal(number)
    assert worker.wait(30) == 0
    assert failure(home, "first")["cause"] == "interrupted"
    assert "steps" in failure(home, "first")["message"]
    assert not home.run("first").lease.exists()
    assert events(home) == [("begin", "first")]


def test_a_stop_signal_lets_an_evaluation_end_its_data_set(tmp_path: Path) -> None:
    home = Home(tmp_path)
    probe = evaluation("probe", "run").paths(home)
    paths = submission(home, [run_task("run"), evaluation("probe", "run")], {"probe": ["work", 60]})
    worker = start_worker(home, paths)
    wait_for((probe.root / "progress").exists)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    found = read_json(probe.failure)
    assert found is not None and found["cause"] == "interrupted" and "steps" in found["message"]


def test_an_evaluation_that_takes_too_long_to_stop_is_killed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    paths = submission(home, [run_task("run"), evaluation("probe", "run")], {"probe": ["deaf", 60]})
    worker = start_worker(home, paths)
    wait_for(lambda: ("begin", "probe") in events(home))
    begin = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(40) == 0
    assert time.monotonic() - begin > FINISH_SECONDS
    found = read_json(evaluation("probe", "run").paths(home).failure)
    assert found is not None and found["cause"] == "interrupted"


def test_a_second_stop_signal_kills_a_run_that_does_not_stop(tmp_path: Path) -> None:
    home = Home(tmp_path)
    paths = submission(home, [run_task("deaf")], {"deaf": ["deaf", 60]})
    worker = start_worker(home, paths)
    wait_for(lambda: ("begin", "deaf") in events(home))
    worker.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert failure(home, "deaf")["cause"] == "killed"


def test_a_worker_whose_lease_was_taken_stops_and_leaves_the_task_to_the_taker(tmp_path: Path) -> None:
    home = Home(tmp_path)
    paths = submission(home, [run_task("run"), run_task("next")], {"run": ["deaf", 60]})
    worker = start_worker(home, paths)
    wait_for(lambda: ("begin", "run") in events(home))
    home.run("run").lease.unlink()
    mine = leases.acquire(home.run("run").lease, "taker", 60.0)
    assert mine is not None
    wait_for(home.run("next").record.exists)
    worker.kill()
    worker.wait()
    assert mine.held() and not home.run("run").failure.exists()


def test_a_task_dies_with_its_worker(tmp_path: Path) -> None:
    home = Home(tmp_path)
    paths = submission(home, [run_task("run")], {"run": ["deaf", 60]})
    worker = start_worker(home, paths)
    wait_for(lambda: ("begin", "run") in events(home))
    task = int((home.root / "events").read_text().split()[2])
    worker.kill()
    worker.wait()
    wait_for(lambda: leases.start_time(task) is None, 5)
    holder = leases.inspect(home.run("run").lease, 60.0)
    assert holder is not None and not holder.alive


def test_workers_share_the_queue_and_outlive_each_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    runs = [run_task(f"run{index}") for index in range(6)]
    tasks = [*runs, *(evaluation(f"eval{index}", f"run{index}") for index in range(6))]
    paths = submission(home, tasks, {"train": ["work", 0.2]})
    first, second = start_worker(home, paths, 0), start_worker(home, paths, 1)
    wait_for(lambda: len(events(home)) >= 4)
    first.kill()
    first.wait()
    assert second.wait(30) == 0
    assert done(home) == Counter({task.task_id: 1 for task in tasks}), "the second takes up what the first died with"


def test_killed_at_random_moments_and_started_again_everything_is_done_once(tmp_path: Path) -> None:
    """Workers and tasks get SIGKILL at random for some seconds; then a last worker finishes what is left."""
    home, rng = Home(tmp_path), random.Random(1)
    runs = [run_task(f"run{index}") for index in range(12)]
    tasks = [*runs, *(evaluation(f"eval{index}", f"run{index}") for index in range(12))]
    paths = submission(home, tasks, {"train": ["work", 0.3], "probe": ["work", 0.05]})
    workers, kills, end = [start_worker(home, paths, index) for index in range(3)], 0, time.monotonic() + 6
    while time.monotonic() < end:
        time.sleep(rng.random() * 0.2)
        target = rng.randrange(3)
        if rng.random() < 0.5:
            workers[target].kill()
            workers[target].wait()
            kills += 1
            workers[target] = start_worker(home, paths, target)
        else:
            kills += _kill_a_task(home, rng)
    for worker in workers:
        worker.kill()
        worker.wait()
    for task in tasks:
        task.paths(home).failure.unlink(missing_ok=True)
    assert start_worker(home, paths).wait(60) == 0
    assert kills > 10
    assert all(task.paths(home).record.exists() for task in tasks)
    # Between the record and its note in the file there is an instant to be killed in, but never a second record.
    assert max(done(home).values()) == 1
    assert not any(task.paths(home).lease.exists() for task in tasks if task.paths(home).failure.exists())


def _kill_a_task(home: Home, rng: random.Random) -> int:
    lines = (home.root / "events").read_text().splitlines() if (home.root / "events").exists() else []
    begun = [int(line.split()[2]) for line in lines[-3:] if line.startswith("begin")]
    for pid in rng.sample(begun, min(1, len(begun))):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        return 1
    return 0
