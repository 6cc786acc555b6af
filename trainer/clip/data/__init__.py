"""Image-text pairs to train on and labelled sets to evaluate on: drawn, packaged or in shards.

It may import `study`. Each room may import those before it: images, pairs, shards, sets, world, questions, these files.
"""
