"""Searches: workers that ask an Optuna study for their next trial, and report to it how the trial's runs ended.

It may import `study` and every other package of `sweeps` but `sweeps.slurm`.
"""
