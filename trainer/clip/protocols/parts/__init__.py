"""What several protocols share: features, prompts, similarities, metrics, classifiers' training.

It may import `study`, `trainer.clip.spec`, `trainer.clip.models`, `trainer.clip.objectives` and `trainer.clip.data`.
"""
