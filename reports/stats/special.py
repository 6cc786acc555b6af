"""SciPy's special functions, imported without the rest of `scipy.special`.

They are compiled. The package around them takes five times as long to import: it prepares each function for other array
libraries, and writes notes on these into its docstring.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


class _Unrun(ModuleType):
    """A package that runs when it is asked for something that its imported submodules have not brought.

    `importlib.util.LazyLoader` runs a package as soon as a submodule is imported.
    """

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if spec is None or spec.loader is None:
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def _leave(name: str) -> None:
    """Have the submodules of a package imported without running it."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None:
        package = importlib.util.module_from_spec(spec)
        package.__class__ = _Unrun
        sys.modules[name] = package


_leave("scipy.special")

try:
    from scipy.special._ufuncs import fdtrc, nctdtr, stdtr, stdtrit
except ImportError:  # a SciPy that keeps them elsewhere
    from scipy.special import fdtrc, nctdtr, stdtr, stdtrit

__all__ = ["fdtrc", "nctdtr", "stdtr", "stdtrit"]
