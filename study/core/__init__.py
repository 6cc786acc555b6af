"""What every other package rests on: errors, files, configurations, identity, secrets, HTTP settings, late imports.

It imports nothing of `ablative`.
"""
