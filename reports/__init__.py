"""Results: MLflow's store into DuckDB, and from there into tables, figures, verdicts and one page.

It may import `study`, and neither torch, submitit, mlflow, `sweeps` nor `trainer`.
"""
