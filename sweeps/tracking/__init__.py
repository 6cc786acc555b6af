"""Journals to MLflow: idempotent, in batches, off the training step.

It may import `study` and `sweeps.queue`.
"""
