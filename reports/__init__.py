"""Results: MLflow's store into DuckDB, and from there into tables, figures, verdicts and one page.

It may import `study`, and neither torch, submitit, mlflow, `sweeps` nor `trainer`.
"""

from importlib import import_module

__all__ = ["claims", "curves", "results", "table"]


def __getattr__(name: str) -> object:
    """What Python code may ask of results (`frames.py`), imported late: pandas and DuckDB take half a second."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.frames"), name)
