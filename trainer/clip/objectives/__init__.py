"""Losses, masking, and the system of modules that an objective trains.

It may import `study`, `trainer.clip.spec`, `trainer.clip.token_ids` and `trainer.clip.models`.
"""
