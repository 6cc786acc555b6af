"""Training pairs: their interface, their tokens, and batches as a function of the step.

It may import `study`, `trainer.clip.token_ids` and `trainer.clip.data.images`.
"""
