"""A search's worker in an array element: trials are saved and taken up again as the scheduler ends and starts it."""

from __future__ import annotations

from ablative.sweeps.search.worker import SearchWorker
from ablative.sweeps.slurm.workers import ElementWorker


class SearchElementWorker(ElementWorker, SearchWorker):
    """Takes trials. On a stop signal it saves the current trial, which the next worker that asks for one takes up."""
