"""What every other package rests on: errors, files, typed configurations, identity, secrets, and names loaded late.

It imports nothing of `ablative`.
"""
