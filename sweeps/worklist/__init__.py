"""Lists whose items a function takes one by one, in an array of SLURM: work that is no task of a study.

It may import `study`, `sweeps.queue`, `sweeps.worker`, `sweeps.submission` and `sweeps.slurm`.
"""
