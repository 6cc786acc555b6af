"""The results of a study: MLflow's store, read into a DuckDB warehouse, and the coverage of its plan.

It may import `study`.
"""
