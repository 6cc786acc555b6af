"""The shipped trainer's answers to the manager (`study.trainers`): stages of a cell, metrics, prices, progress.

It may import `study` and `trainer.clip`; what is heavy it names, and that is imported where it is needed.
"""
