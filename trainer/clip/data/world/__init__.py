"""The procedural world: scenes, their drawing and their captions, as training pairs and as labelled sets.

It may import `study`, `trainer.clip.spec`, `trainer.clip.data.images`, `trainer.clip.data.pairs` and
`trainer.clip.data.sets`.
"""
