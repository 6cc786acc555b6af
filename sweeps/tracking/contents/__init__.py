"""What a task's MLflow run holds: names, texts, numbers, tags and state. Pure functions of the task and its files.

It may import `study`.
"""
