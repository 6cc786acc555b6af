"""What is to be run: study file, grid, identity, plan, the files of a home, and the front of the command line.

It imports no other package of `ablative`, and neither torch, mlflow, optuna, duckdb nor matplotlib.
"""
