"""Tables: declared rows and columns filled from the store, in one model that every format is rendered from.

It may import `study`, `reports.store` and `reports.stats`.
"""
