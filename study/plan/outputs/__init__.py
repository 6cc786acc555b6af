"""Checks of what a study prints, its tables, figures and claims, against its grid and the metrics of its tasks.

It may import every other room of `study` but `study.costs`.
"""
