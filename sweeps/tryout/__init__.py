"""`ablate try`: the tasks of one cell, run on this machine in a folder that is removed, stopped once and resumed.

It may import `study`, `sweeps.queue`, `sweeps.worker` and `sweeps.submission`.
"""
