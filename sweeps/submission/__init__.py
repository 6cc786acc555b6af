"""The way from a plan to jobs: what is missing, what of it is submitted, and the executor of this machine.

It may import `study`, `sweeps.queue`, `sweeps.worker`, `sweeps.status` and `sweeps.tracking`.
"""
