"""The script of a probe's process: `python entry.py KIND REQUESTS ANSWERS SECONDS ELSEWHERE`.

KIND is `argparse`, `hydra` or `type`; REQUESTS and ANSWERS are file descriptors, and SECONDS the time after which the
process ends if the program has not come to the point where it can answer.
"""

from __future__ import annotations

import importlib
import os
import sys
import types

PACKAGE = "ablative.trainer.program.probes.inside"


def load(*modules: str) -> list[types.ModuleType]:
    """Modules of this folder, under the names by which they import each other.

    The interpreter may have no `ablative`, or another one, which the program may import.
    """
    names = PACKAGE.split(".")
    for i in range(1, len(names) + 1):
        package = types.ModuleType(".".join(names[:i]))
        package.__path__ = [os.path.dirname(os.path.abspath(__file__))] if i == len(names) else []
        sys.modules[package.__name__] = package
    found = [importlib.import_module(PACKAGE + "." + name) for name in modules]
    for name in [name for name in sys.modules if name.split(".")[0] == "ablative"]:
        del sys.modules[name]
    return found


if __name__ == "__main__":
    kind, requests, answers, seconds, elsewhere = sys.argv[1:6]
    running, server = load("running", kind + "_server")
    running.main(server.Server, int(requests), int(answers), int(seconds), elsewhere == "elsewhere")
