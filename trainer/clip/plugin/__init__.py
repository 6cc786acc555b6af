"""The shipped trainer's answers to the manager (`study.trainers`): stages of a cell, metrics, prices, progress.

It may import `study` and `trainer.clip.spec`; arithmetic and fingerprints are imported where a plan asks for them.
"""
