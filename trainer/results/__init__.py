"""The trainer of studies without training code: its tasks are results that exist already, and none is run.

It may import `study`.
"""
