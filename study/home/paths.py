"""Every file name that `ablate` writes; no module but this and `search_paths` joins paths under a home."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ablative.study.home.search_paths import SearchPaths

HOME_VERSION = 1
"""Layout of the home directory; a home from a newer version is refused."""


@dataclass(frozen=True)
class TaskPaths:
    """Files of one task: a pretraining run or one evaluation of it."""

    root: Path

    @property
    def config(self) -> Path:
        """The whole resolved configuration, YAML."""
        return self.root / "config.yaml"

    @property
    def lease(self) -> Path:
        """Exclusively created by the worker that runs the task; its mtime is the heartbeat."""
        return self.root / "claim"

    @property
    def journal(self) -> Path:
        """Append-only JSON lines: every metric, parameter and event."""
        return self.root / "journal.jsonl"

    @property
    def record(self) -> Path:
        """Written atomically and last: its presence is completion."""
        return self.root / "record.json"

    @property
    def scores(self) -> Path:
        """Metrics of an evaluation's finished data sets (JSON), for a further attempt; gone when there is a record."""
        return self.root / "scores.json"

    @property
    def failure(self) -> Path:
        """How the last attempt ended, when it did not end in a record."""
        return self.root / "failure.json"

    def past_failure(self, attempt: int) -> Path:
        """`failure.json` of an earlier attempt (1, 2, …), kept when the task was submitted again."""
        return self.root / f"failure.{attempt}.json"

    @property
    def cancelled(self) -> Path:
        """Present while the user wants the task not to run."""
        return self.root / "cancelled"

    @property
    def log(self) -> Path:
        """What the task printed, all attempts in order."""
        return self.root / "log.txt"

    @property
    def output(self) -> Path:
        """What a program of the user's writes."""
        return self.root / "output"

    @property
    def earlier_output(self) -> Path:
        """What the last attempt wrote that could not be resumed."""
        return self.root / "output.earlier"

    @property
    def exchange(self) -> Path:
        """Messages between a program of the user's and its worker while it runs."""
        return self.root / "program"

    @property
    def config_file(self) -> Path:
        """The configuration as a program of the user's may read it, YAML."""
        return self.exchange / "config.yaml"

    def shipped(self, study: str) -> Path:
        """How much of the journal is in that study's MLflow experiment, and under which MLflow run."""
        return self.root / "shipped" / f"{study}.json"

    def shipping(self, study: str) -> Path:
        """Lock of the one process that ships the journal into that study's experiment; absent when none does."""
        return self.root / "shipped" / f"{study}.lock"


@dataclass(frozen=True)
class RunPaths(TaskPaths):
    """Files of one run, `$ABLATE_HOME/runs/<run_id>`."""

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of the run."""
        return self.root / "checkpoints"

    @property
    def checkpoint(self) -> Path:
        """Newest complete state, replaced atomically; after completion only the model is kept."""
        return self.checkpoints / "last.pt"

    @property
    def model(self) -> Path:
        """Final weights, written before the record."""
        return self.checkpoints / "model.pt"

    @property
    def tokenizer(self) -> Path:
        """The run's tokenizer (JSON)."""
        return self.root / "tokenizer.json"

    @property
    def features(self) -> Path:
        """Cache of evaluation features, shared by the run's evaluations; may be deleted."""
        return self.root / "features"

    def feature(self, key: str) -> Path:
        """One cached array; `key` covers everything that determines it."""
        return self.features / f"{key}.bin"

    @property
    def evaluations(self) -> Path:
        """One folder per further task of the run."""
        return self.root / "evaluations"

    def evaluation(self, evaluation_id: str) -> TaskPaths:
        return TaskPaths(self.evaluations / evaluation_id)


def watched(run: Path) -> Path:
    """File in a run's folder with the evaluation to do while it trains (JSON), where a search prunes by it."""
    return run / "watched.json"


@dataclass(frozen=True)
class SubmissionPaths:
    """Files of one `ablate submit`, `$ABLATE_HOME/studies/<study>/submissions/<stamp>`."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Task ids, job ids, executor, snapshot: what was submitted."""
        return self.root / "submission.json"

    @property
    def search(self) -> Path:
        """What a search's workers look for, and among what (JSON); absent where tasks are queued."""
        return self.root / "search.json"

    @property
    def jobs(self) -> Path:
        """Submitit's folder: pickles and the scheduler's logs."""
        return self.root / "jobs"

    @property
    def alive(self) -> Path:
        """Touched by the submission's workers: the heartbeat that other hosts can see."""
        return self.root / "alive"

    @property
    def stopped(self) -> Path:
        """Why no further task of this submission is to be started (JSON): identical failures, or the user."""
        return self.root / "stopped.json"

    @property
    def launch_log(self) -> Path:
        """What the launcher of local jobs printed; empty when all went well."""
        return self.root / "launch.log"

    @property
    def launching(self) -> Path:
        """Lease of the process that hands the submission's arrays to the scheduler."""
        return self.root / "launching"

    def output(self, job_id: str) -> Path:
        """What an array element printed outside its tasks' logs; Submitit names the file. `job_id` as in `123_4`."""
        return self.jobs / f"{job_id}_0_log.out"

    def errors(self, job_id: str) -> Path:
        """What it printed to standard error."""
        return self.jobs / f"{job_id}_0_log.err"

    @property
    def patch(self) -> Path:
        """Difference of the submitted code to its commit; absent where there is none."""
        return self.root / "code.patch"

    @property
    def ended(self) -> Path:
        """Present once the submission's jobs were found gone, so that they are not looked for again."""
        return self.root / "ended"

    @property
    def shipper(self) -> Path:
        """Lease of the worker that ships the submission's journals."""
        return self.root / "shipper"


@dataclass(frozen=True)
class StudyPaths:
    """Files of one study, `$ABLATE_HOME/studies/<study>`."""

    root: Path

    @property
    def plan(self) -> Path:
        """The last submitted plan: cells, runs and tasks; comparing with it shows deleted cells."""
        return self.root / "plan.json"

    @property
    def origin(self) -> Path:
        """Which file the study is."""
        return self.root / "origin.json"

    @property
    def tracking(self) -> Path:
        """Which tracking store and experiment the study's tasks are shipped to."""
        return self.root / "tracking.json"

    @property
    def tried(self) -> Path:
        """What `ablate try` has measured of the study's stages (JSON)."""
        return self.root / "tried.json"

    @property
    def search(self) -> SearchPaths:
        return SearchPaths(self.root / "search")

    def failed_node(self, node: str) -> Path:
        """Last failure of a cluster's node under the study's tasks; `*`: pattern for all such nodes."""
        return self.root / "nodes" / f"{node}.json"

    @property
    def submissions(self) -> Path:
        """One folder per submission."""
        return self.root / "submissions"

    def submission(self, stamp: str) -> SubmissionPaths:
        return SubmissionPaths(self.submissions / stamp)

    @property
    def report(self) -> Path:
        """Default output of `ablate report`."""
        return self.root / "report"

    @property
    def reference(self) -> Path:
        """Default output of `ablate report --reference`, where the study is a paper's name."""
        return self.root / "reference"

    @property
    def warehouse(self) -> Path:
        """What the last report asked: a DuckDB database with the views of `ablate sql`."""
        return self.root / "warehouse.duckdb"


@dataclass(frozen=True)
class Home:
    """`$ABLATE_HOME`: runs (shared by all studies), studies, caches, and the default MLflow store."""

    root: Path

    @property
    def version(self) -> Path:
        """Version of the layout; a home of a newer version is refused."""
        return self.root / "version"

    @property
    def store(self) -> Path:
        """Default MLflow store (SQLite)."""
        return self.root / "mlflow.db"

    @property
    def store_lock(self) -> Path:
        """Lock held while the tracking store or an experiment is created; absent otherwise."""
        return self.root / "mlflow.lock"

    @property
    def identity(self) -> Path:
        """Random name of this home, which distinguishes homes that share one tracking server."""
        return self.root / "identity"

    @property
    def artifacts(self) -> Path:
        """Default MLflow artifact folder."""
        return self.root / "artifacts"

    @property
    def runs(self) -> Path:
        """One folder per run, shared by all studies that contain it."""
        return self.root / "runs"

    @property
    def snapshots(self) -> Path:
        """Code as it was submitted, one folder per content hash."""
        return self.root / "snapshots"

    def snapshot(self, digest: str) -> Path:
        """Folder to put on PYTHONPATH: the packages as they were."""
        return self.snapshots / digest

    @property
    def repositories(self) -> Path:
        """Copies of users' repositories that jobs run in."""
        return self.root / "repositories"

    def repository(self, key: str) -> Path:
        """One copy: the repository as it was under its own name, `copy.json`, and `imports`."""
        return self.repositories / key

    def environment(self, key: str) -> Path:
        """What was installed for an interpreter of users' programs: Python's version, `packages` by name."""
        return self.root / "environments" / f"{key}.json"

    @property
    def cache(self) -> Path:
        """Shard indexes and decompressed shards; may be deleted."""
        return self.root / "cache"

    def interpreter(self, key: str) -> Path:
        """Version and path of an interpreter of users' programs."""
        return self.cache / "interpreters" / f"{key}.json"

    @property
    def tracking_cache(self) -> Path:
        """Finished runs as tracking servers returned them."""
        return self.cache / "tracking"

    @property
    def schema(self) -> Path:
        """JSON schema of study files, for editors."""
        return self.root / "study-schema.json"

    def fitted_tokenizer(self, key: str) -> Path:
        """A tokenizer that all runs on the same captions share; `key` names captions and sizes."""
        return self.cache / "tokenizers" / f"{key}.json"

    def texts_fingerprint(self, key: str) -> Path:
        """Fingerprint of a text file that tokenizers are fitted on; `key` names the file, its size and its time."""
        return self.cache / "texts" / key

    def checked_set(self, key: str) -> Path:
        """It exists where an evaluation set has what a protocol takes of it; `key` names both, and the content."""
        return self.cache / "sets" / key

    def kept_pairs(self, key: str) -> Path:
        """Which samples of some shards `data.exclude` and `data.exclude_images` leave; `key` names the shards, the
        caption and the words, or the list."""
        return self.cache / "pairs" / f"{key}.npy"

    def image_hashes(self, content: str) -> Path:
        """Hashes of the images in a shard; `content` is the shard's own."""
        return self.cache / "images" / f"{content}.npy"

    def run(self, run_id: str) -> RunPaths:
        return RunPaths(self.runs / run_id)

    def taken_over(self, run_id: str) -> Path:
        """Where a finished run is copied to before it appears under this id; absent otherwise."""
        return self.runs / f".{run_id}"

    @property
    def studies(self) -> Path:
        """One folder per study."""
        return self.root / "studies"

    def study(self, name: str) -> StudyPaths:
        return StudyPaths(self.studies / name)

    @property
    def worklists(self) -> Path:
        """Lists that jobs work through and that are no tasks of a study (`ablate data index`): submissions of each."""
        return self.root / "worklists"

    def worklist(self, name: str) -> StudyPaths:
        return StudyPaths(self.worklists / name)

    @property
    def tracking_uri(self) -> str:
        """`MLFLOW_TRACKING_URI`, or the default store as an absolute SQLite URI."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.store}"


def home() -> Home:
    """The home that `$ABLATE_HOME` names (default `./ablate_home`), absolute."""
    return Home(Path(os.environ.get("ABLATE_HOME") or "ablate_home").absolute())
