"""Files of a search in the home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialPaths:
    """Files of one trial of a search; its runs lie where all runs do."""

    root: Path

    @property
    def lease(self) -> Path:
        """Lease of the worker that has the trial."""
        return self.root / "claim"

    @property
    def tasks(self) -> Path:
        """The trial's tasks (JSON), whose journals are to be shipped."""
        return self.root / "tasks.json"

    @property
    def outcome(self) -> Path:
        """How a repeat ended (JSON)."""
        return self.root / "outcome.json"

    def repeat(self, seed: int) -> TrialPaths:
        """Files of a repeat: the trial's values, run again with another seed."""
        return TrialPaths(self.root / "repeats" / str(seed))


@dataclass(frozen=True)
class SearchPaths:
    """Files of a study's search, `$ABLATE_HOME/studies/<study>/search`."""

    root: Path

    @property
    def storage(self) -> Path:
        """Optuna's journal: every arm's trials."""
        return self.root / "optuna.journal"

    @property
    def asking(self) -> Path:
        """Lease of the worker that takes the next trial: one at a time."""
        return self.root / "asking"

    def result(self, arm: str) -> Path:
        """What an arm's search has found; written when its budget is spent."""
        return self.root / arm / "result.json"

    def trial(self, arm: str, number: int) -> TrialPaths:
        return TrialPaths(self.root / arm / "trials" / str(number))
