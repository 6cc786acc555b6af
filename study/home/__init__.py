"""The files of a home: their names, the journal, and what a task's directory says of its state and its attempts.

It may import `study.core`.
"""
