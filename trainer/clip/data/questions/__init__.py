"""Questions about images: published sets, those of the procedural world, and how answers are scored.

It may import `study`, `trainer.clip.spec`, `trainer.clip.data.images`, `trainer.clip.data.sets` and
`trainer.clip.data.world`.
"""
