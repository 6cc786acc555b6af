"""Metrics read from what a user's program writes: its output, files, TensorBoard events and MLflow stores.

It may import `study`. The program's own libraries (MLflow, TensorBoard) are never imported: their files are read.
"""
