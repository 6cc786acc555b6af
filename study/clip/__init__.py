"""What the manager knows of the shipped trainer: configuration, checks, metrics, prompts, class names, fingerprints.

It may import `study.core` and `study.home`.
"""
