"""Figures: their data, fetched from the store, and their drawing.

It may import `study`, `reports.store`, `reports.stats` and `reports.tables`.
"""
