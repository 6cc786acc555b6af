"""Heads on feature maps, trained together with the image tower: UPerNet, Mask R-CNN; and average precision.

It may import `study`, `trainer.clip.spec`, `trainer.clip.models`, `trainer.clip.objectives` and `trainer.clip.data`.
"""
