"""What of a probe runs in the study's interpreter, inside the user's program: standard library, Python 3.8.

Its modules get their names from `entry` there.

It imports nothing of `ablative`.
"""
