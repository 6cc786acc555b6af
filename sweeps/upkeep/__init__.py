"""A home's upkeep: which of its files are damaged or shut to its group, and what it could lose.

It may import `study` and `sweeps.queue`.
"""
