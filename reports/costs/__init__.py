"""What a study has cost: hours by stage, energy, usage by table and cell, and a statement for the paper.

It may import `study` and `reports.store`.
"""
