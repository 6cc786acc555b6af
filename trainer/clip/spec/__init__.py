"""What the shipped trainer's configurations are, without torch: schema, recipes, checks, metrics, prompts, class names.

It may import `study`.
"""
