"""The study file: factors, levels and cells, outputs, claims and searches as typed objects, composed by Hydra.

It may import `study.core`, `study.home` and `study.syntax`.
"""
