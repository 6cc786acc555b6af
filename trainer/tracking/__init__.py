"""Tracking: ships the journals of tasks into MLflow, where people and reports look.

The journal is the truth (`study.journal`); everything here may fail, be killed or be repeated without losing
or doubling a row. Only `store` and `shipping` import MLflow, and only inside functions.
"""
