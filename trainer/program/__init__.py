"""The trainer of any program: each stage is a command or a function of the user's, run as it is.

It may import `study` and `trainer.runner`; none of it imports the user's code, which runs in another interpreter.
"""
