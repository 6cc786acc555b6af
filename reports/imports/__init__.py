"""Results that exist already: tables of runs, MLflow's experiments and other studies, matched with a study's cells.

It may import `study` and `reports.store`.
"""
