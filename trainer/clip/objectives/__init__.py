"""Losses, masking, and the system of modules that an objective trains.

It may import `study` and `trainer.clip.models`.
"""
