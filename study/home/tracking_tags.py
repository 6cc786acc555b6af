"""Every `ablate.*` tag of an MLflow run: those who write tags and those who read them name them from this list.

The SQL models of `reports` name tags as text; a test holds them against the list. Stores keep tags for years: a tag may
be added here, and none may be renamed.
"""

from __future__ import annotations

# The plan's, sent by `sweeps.tracking`.
STUDY = "ablate.study"
RUN_ID = "ablate.run_id"
TASK_ID = "ablate.task_id"
STAGE = "ablate.stage"
NEEDS = "ablate.needs"
"""JSON list of the ids of the tasks that had to be finished before; absent where there are none."""
KIND = "ablate.kind"
PROTOCOL = "ablate.protocol"
"""The last two were written before there was a stage, and are until 1.0."""
SEED = "ablate.seed"
CELLS = "ablate.cells"
"""JSON list of the cells that the task belongs to."""
CELL = "ablate.cell."
"""Prefix; with a factor's name, its level in the first cell."""

# The task's state, sent by `sweeps.tracking`.
STATE = "ablate.state"
CAUSE = "ablate.cause"
HOME = "ablate.home"
"""Identity of the home that sent the run."""
JOURNAL = "ablate.journal"
"""Identity of the journal that was sent."""
MARK = "ablate.mark"
"""Which state of the task the MLflow run was last brought to: a store put back from a backup has an older one."""
CHANGED = "ablate.changed."
"""Prefix; with a param's name, its later value: MLflow refuses to change a param."""

ORIGIN = "ablate.origin"
"""Where a result lies that existed already. No store has it: `reports.imports` adds it where it is read."""

# What an attempt runs on and has used, written to the journal by the process that runs the task.
COMMIT = "ablate.commit"
"""The user's repository's; of a study without one, that of the trainer's packages."""
DIRTY = "ablate.dirty"
SOURCES = "ablate.sources"
"""Hash of the code of the user, or of a trainer that comes from elsewhere: it may be in no commit."""
VERSION = "ablate.version"
"""This program's."""
DEVICE = "ablate.device"
GPUS = "ablate.gpus"
CORES = "ablate.cores"
SECONDS = "ablate.seconds"
SECONDS_WASTED = "ablate.seconds_wasted"
SCHEDULER = "ablate.scheduler."
"""Prefix; with the name of a fact of the scheduler's job, such as `queue_seconds`."""
QUEUE_SECONDS = SCHEDULER + "queue_seconds"

# A search's, written to the journal by its worker.
SEARCH = "ablate.search"
ARM = "ablate.arm"
TRIAL = "ablate.trial"
TRIALS = "ablate.trials"
"""JSON object, `<arm's key>.<trial's number>` → how the trial ended, and what this run gave it."""

# The experiment's.
DOCTOR = "ablate.doctor"
"""When `ablate doctor` last wrote to the store."""

READ = (
    *(TASK_ID, RUN_ID, STAGE, PROTOCOL, SEED, CELLS, STATE, CAUSE, COMMIT, DIRTY, SOURCES, ORIGIN, TRIALS),
    *(DEVICE, GPUS, CORES, SECONDS, SECONDS_WASTED, QUEUE_SECONDS),
)
"""Tags that reports read; whatever else a store has is not looked at."""
