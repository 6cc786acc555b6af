"""What can be typed: every key of a study file and of the config groups, help topics, completion, the JSON schema.

All of it is read from the typed configurations and their docstrings, so that no list of keys is kept twice.
It may import `study`.
"""
