"""What tasks cost: prices before they run, usage afterwards, and what a budget pays for.

It may import every other room of `study`.
"""
