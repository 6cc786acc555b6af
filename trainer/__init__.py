"""What runs a task: the shipped trainer, and what any trainer needs.

It may import `study`, and neither submitit, optuna, duckdb nor mlflow.
"""
