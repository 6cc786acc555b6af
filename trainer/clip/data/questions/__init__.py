"""Questions about images: published sets, those of the procedural world, and how answers are scored.

It may import `study` and the rooms `images`, `sets` and `world` of `trainer.clip.data`.
"""
