"""The procedural world: scenes, their drawing and their captions, as training pairs and as labelled sets.

It may import `study`, `trainer.clip.spec`, `trainer.clip.data.images` and `trainer.clip.data.pairs`.
"""
