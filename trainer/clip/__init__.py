"""The shipped trainer: contrastive and masked pretraining of image and text towers, and its evaluations.

It may import `study`, `trainer.runner` and `trainer.torch`.
"""
