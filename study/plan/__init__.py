"""The plan of a study: its tasks with their configurations and ids, and checks of what it prints against its grid.

It may import every other room of `study` but `study.costs`.
"""
