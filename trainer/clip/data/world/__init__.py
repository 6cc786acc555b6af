"""The procedural world: scenes, their drawing and their captions, as training pairs and as labelled sets.

It may import `study`, and the rooms `images`, `pairs` and `sets`.
"""
