"""The losses of objectives, one module for each kind: what it trains besides the towers, its passes, its value.

It may import `study`, `trainer.clip.spec`, `trainer.clip.token_ids`, `trainer.clip.models` and
`trainer.clip.objectives`.
"""
