"""What a study has cost: hours by stage, energy, usage by table and cell, and a statement for the paper.

It may import `study`, `reports.store` and `reports.tables`.
"""
