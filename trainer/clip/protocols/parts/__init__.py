"""What several protocols share: features, prompts, similarities, metrics, classifiers' training.

It may import `study`, `trainer.clip.models`, `trainer.clip.objectives` and `trainer.clip.data`.
"""
