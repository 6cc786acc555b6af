"""Image-text pairs to train on and labelled sets to evaluate on: drawn, packaged or in shards.

Rooms, the lower first: images, pairs, shards, sets, world, questions; `study` is all else that they import.
"""
