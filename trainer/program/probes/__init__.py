"""Whole configurations of a user's program, fetched without a change of it, in the study's interpreter.

Everything begins in `probe`; what runs in the user's interpreter is in `inside`.

It may import `study`.
"""
