"""Image-text pairs to train on and labelled sets to evaluate on: drawn, packaged or in shards.

It may import `study`, `trainer.clip.spec` and `trainer.clip.token_ids`; each room may import those before it, the files
here all of them: images, pairs, shards, sets, world, questions.
"""
