"""Every printed number with its runs, configurations and code, and what keeps a report from being final.

It may import `study`, `reports.store`, `reports.tables` and `reports.verdicts`.
"""
