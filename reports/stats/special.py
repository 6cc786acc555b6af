"""SciPy's special functions, imported without what NumPy leaves until it is used.

`scipy.special` copies every name of NumPy, and so imports its submodules: the compiler for Fortran takes as long as all
the rest of it, the tools for tests half as long.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np


def _leave(name: str) -> None:
    """Have a submodule of NumPy imported when something in it is asked for, as `importlib.util.LazyLoader` does."""
    whole = f"numpy.{name}"
    spec = None if whole in sys.modules else importlib.util.find_spec(whole)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[whole] = module
    spec.loader.exec_module(module)
    setattr(np, name, module)


for _name in ("f2py", "ma", "polynomial", "random", "testing"):
    _leave(_name)

from scipy.special import fdtrc, nctdtr, stdtr, stdtrit  # noqa: E402

__all__ = ["fdtrc", "nctdtr", "stdtr", "stdtrit"]
