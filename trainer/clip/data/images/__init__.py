"""From encoded images to square pixels, and random numbers that are functions of a sample's key.

It may import `study`.
"""
