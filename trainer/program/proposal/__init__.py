"""`ablate init`: a study file for a script, a function or a Hydra app, proposed from what the program says of itself.

It may import `study`, `trainer.program` with its other folders, and `trainer.runner`.
"""
