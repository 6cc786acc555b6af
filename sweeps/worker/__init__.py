"""The code in a job: takes leases on tasks, runs each in a forked process, and has journals uploaded.

It may import `study`, `sweeps.queue` and `sweeps.tracking`.
"""
