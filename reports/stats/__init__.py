"""Statistics of ablations for two to five seeds, some tasks and many variants: pure functions, with scipy underneath.

It may import nothing of `ablative`.
"""
