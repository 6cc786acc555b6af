"""How a study is written: YAML files with their lines, `key=value` words, the forms of a factor, places in messages.

It may import `study.core`.
"""
