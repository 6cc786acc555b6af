"""A search's worker in an array element: trials are saved and taken up again as the scheduler ends and starts it."""

from __future__ import annotations

from ablative.sweeps.search.worker import SearchWorker
from ablative.sweeps.slurm.workers import ElementWorker


class SearchElementWorker(ElementWorker, SearchWorker):
    """Takes trials; told to stop, it lets the one in hand be saved, which then waits for whoever asks next."""
