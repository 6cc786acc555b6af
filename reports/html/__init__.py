"""The page: one self-contained HTML file.

It may import `study` and every other room of `reports`.
"""
