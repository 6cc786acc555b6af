"""WebDataset shards: their index, their samples as training pairs, packing and checking.

It may import `study`, `trainer.clip.spec`, `trainer.clip.data.images` and `trainer.clip.data.pairs`.
"""
