"""The page: one self-contained HTML file.

It may import every other room of `reports`.
"""
