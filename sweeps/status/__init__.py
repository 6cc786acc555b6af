"""States of tasks and how they are shown: counts, progress, failures, logs, usage.

It may import `study` and `sweeps.queue`.
"""
