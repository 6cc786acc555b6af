"""ablative: an ablation-study manager.

This file is `ablative/__init__.py`. It uses the standard library alone and the syntax of Python 3.8, since programs
that are trained, in environments of their own, may import it.
"""
