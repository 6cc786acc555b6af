"""The shipped trainer without torch: its answers to the manager, configuration, recipes, checks, metrics, prompts.

It may import `study`.
"""
