"""What every task leaves behind, whatever it trains: its record, its environment, the tags of its usage.

It may import `study` and `trainer.torch`.
"""
