"""Many tasks: submission, workers, states, SLURM, searches and tracking, and the commands that drive them.

It may import `study`, and neither duckdb nor `trainer`.
"""
