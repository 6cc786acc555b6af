"""Whole configurations of a user's program, fetched without a change of it, in the study's interpreter.

It may import `study`. Everything begins in `probe`; what runs in the user's interpreter is in `inside`.
"""
