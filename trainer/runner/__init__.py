"""What every task of a torch trainer leaves behind: its record, its environment, the tags of its usage.

It may import `study` and `trainer.torch`.
"""
