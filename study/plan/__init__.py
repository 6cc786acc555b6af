"""The plan of a study: its tasks with their configurations and ids.

It may import every other room of `study` but `study.costs`.
"""
