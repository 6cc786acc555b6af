"""A task of a user's program while it runs: started, followed, stopped, and checked for what it has to leave.

It may import `study`, `trainer.program` and `trainer.runner`.
"""
