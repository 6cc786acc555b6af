"""Changes of what protocols train on, each a function of random numbers that its caller gives.

It may import `study`, `trainer.clip.spec`, `trainer.clip.models`, `trainer.clip.objectives` and `trainer.clip.data`.
"""
