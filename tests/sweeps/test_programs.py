"""Users' programs under the manager: their searches are pruned by what they print, and what is stopped may save."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from shared import with_store

from ablative.study.core.files import read_json
from ablative.study.home.paths import Home

PROGRAM = """
import json, os, signal, sys, time
words = dict(word[2:].split("=") for word in sys.argv[1:] if "=" in word)
rate, out, file = float(words["rate"]), words["out"], os.path.join(words["out"], "last.json")
done = json.load(open(file)) if "--resume" in sys.argv else 0
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
for step in range(done + 1, 31):
    print(f"step {step} loss {abs(rate - 0.3) + 1 / step}", flush=True)
    time.sleep(0.2 if rate > 0.5 and not done else 0.01)
    if stopped:
        with open(file, "w") as saved:
            json.dump(step, saved)
        sys.exit(3)
with open(os.path.join(out, "result.json"), "w") as result:
    json.dump({"acc": 1 - abs(rate - 0.3)}, result)
"""
STUDY = """
name: tuned
code: .
config: {rate: 0.1, width: 1}
stages:
  train:
    command: python train.py {args} --out={out}
    resume: {file: last.json, args: --resume}
    metrics:
      loss: {better: lower, stdout: 'step (?P<step>[0-9]+) loss (?P<value>[^ ]+)'}
      acc: {better: higher, json: result.json, key: acc}
factors: {width: {narrow: {width: 1}, wide: {width: 2}}}
search:
  parameters: {rate: {low: 0.01, high: 1.0}}
  objective: {metric: train/acc}
  budget: {trials: 2}
  per: [width]
  where: {width: [narrow]}
  pruner: {name: median, n_startup_trials: 1, n_warmup_steps: 1}
  report: train/loss
  enqueue: [{rate: 0.3}, {rate: 0.9}]
"""


def folder(place: Path) -> Path:
    place.mkdir()
    (place / "train.py").write_text(PROGRAM)
    (place / "study.yaml").write_text(STUDY)
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    return place


def test_a_trial_is_pruned_by_what_it_prints_and_may_save(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    home, study = with_store(tmp_path / "home"), str(folder(tmp_path / "user") / "study.yaml")
    call_ablate(home, "search", study, "--jobs", "1")
    (result,) = [read_json(path) for path in (home / "studies" / "tuned" / "search").glob("*/result.json")]
    assert result is not None and result["best"]["values"] == {"rate": 0.3} and result["best"]["objectives"] == [1.0]
    (pruned,) = [trial for trial in result["trials"] if trial["state"] == "pruned"]
    assert pruned["values"] == {"rate": 0.9}
    paths = Home(home).run(pruned["runs"][0])
    assert (read_json(paths.failure) or {})["message"] == "pruned while it ran: stopped (exit status 3)"
    saved = json.loads((paths.output / "last.json").read_text())
    # The grid has the same run, and takes it up where it was pruned.
    call_ablate(home, "run", study, "rate=0.9", "factors.width=[narrow]", "search=null", "--jobs", "1")
    log = paths.log.read_text()
    assert log.count(f"step {saved} ") == 1 and f"step {saved + 1} " in log.partition("attempt 2")[2]
    assert (read_json(paths.record) or {})["state"] == "completed"
