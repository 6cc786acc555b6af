"""The trainer of users' own programs: commands and functions, their configurations and metrics.

It may import `study` and `trainer.runner`; users' code is never imported in a process of the manager.
"""
