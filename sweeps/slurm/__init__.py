"""SLURM as a cluster: arrays of elements, each of which works through its own slice of a submission's queue.

It may import `study` and every other package of `sweeps`.
"""
