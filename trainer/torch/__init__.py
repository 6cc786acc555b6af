"""What any torch trainer needs: its device, processes that train one run, their cost, the first step that diverged.

It may import `study` and `trainer.runner`.
"""
