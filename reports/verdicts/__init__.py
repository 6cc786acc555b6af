"""Verdicts on claims, and the runs behind each.

It may import `study`, `reports.store`, `reports.stats` and `reports.tables`.
"""
