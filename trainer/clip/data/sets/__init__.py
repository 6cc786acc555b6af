"""Labelled evaluation sets in the layouts in which they are published.

It may import `study`, `trainer.clip.spec`, `trainer.clip.data.images` and `trainer.clip.data.shards`.
"""
