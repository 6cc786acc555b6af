"""What a report says of a search: its trials, its winners, its figures.

It may import `study`, `reports.store`, `reports.stats`, `reports.tables` and `reports.figures`.
"""
