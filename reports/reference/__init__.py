"""What the papers print: every value of their tables, the tables' declarations, and what follows from both.

It may import `study`, `reports.store`, `reports.stats`, `reports.tables`, `reports.verdicts` and `reports.html`.
"""
