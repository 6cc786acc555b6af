"""Environment variables and exit codes, with their meanings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "ABLATE_HOME": "Folder for everything that ablate writes [default: ./ablate_home].",
        "ABLATE_CONFIG_DIR": "Your own folder of config groups and studies, as --config-dir names it.",
        "ABLATE_DATA": "Folder at which relative paths of data begin [default: the current folder].",
        "MLFLOW_TRACKING_URI": "Store that results are tracked to [default: mlflow.db in the home]. MLflow's other "
        "variables for users, tokens, certificates and time limits count, too.",
        "OPTUNA_STORAGE": "Database of searches' trials [default: a file in the home].",
        "CUDA_VISIBLE_DEVICES": "GPUs that local jobs may use; empty: none.",
        "COLUMNS": "Width of what is printed to no terminal.",
    }
)
"""Variables that users set."""

IN_JOBS: Mapping[str, str] = MappingProxyType(
    {
        "ABLATE_TASK": "File by which `ablative.context()` finds the task.",
        "ABLATE_OUT": "The task's folder of outputs, `{out}`.",
        "ABLATE_SEED": "The seed, `{seed}`.",
        "ABLATE_STAGE_NAME": "Outputs of a stage that the task needs (NAME: its name in capitals).",
        "ABLATE_RESUMED": "1 where an earlier attempt is resumed.",
        "ABLATE_DEADLINE": "When the job's time ends, in seconds since 1970; absent where that is not known.",
        "ABLATE_STOP": "File that appears when the program is to save and end.",
    }
)
"""Variables that programs of users find in their environment."""

INTERNAL = (
    *("ABLATE_ATTEMPT", "ABLATE_CODE", "ABLATE_CODE_COPY", "ABLATE_CODE_IMPORTS", "ABLATE_CODE_LIVE", "ABLATE_COMMIT"),
    *("ABLATE_DIRTY", "ABLATE_SCHEDULER", "ABLATE_SNAPSHOT", "ABLATE_SOURCES", "ABLATE_TEAM_PORT", "ABLATE_UNUSED"),
)
"""Variables by which the program's processes talk to each other."""

EXIT_CODES: Mapping[str, str] = MappingProxyType(
    {
        "0": "Everything that was asked for is done.",
        "1": "It is not: tasks failed or are left, the store or a file cannot be used; after a traceback, a defect of "
        "ablate.",
        "2": "The study, a word or an option cannot be run as written; nothing was spent.",
        "130": "Interrupted by Ctrl-C; the same command continues.",
        "141": "The reader of the output (head, less) has ended.",
    }
)
