"""Labelled evaluation sets in the layouts in which they are published.

It may import `study` and the rooms `images`, `pairs` and `shards`.
"""
