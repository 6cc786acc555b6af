"""What a Hydra application would run with: the configuration that `--cfg job --resolve` prints.

The application is run to where Hydra reads the command line. Each request goes on from there in a forked process,
through Hydra's own code, until Hydra would print.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablative.trainer.program.probes.inside.argparse_server import Server as ArgparseServer
from ablative.trainer.program.probes.inside.plain_values import plain

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ablative.trainer.program.probes.inside.argparse_server import Parse

PRINT = ["--cfg", "job", "--resolve"]


class Server(ArgparseServer):
    """Takes over where `hydra.main` parses the command line."""

    def take_over(
        self,
        parser: argparse.ArgumentParser,
        name: str,
        real: Parse,
        args: Sequence[str] | None,
        namespace: argparse.Namespace | None,
        frame: types.FrameType,
    ) -> argparse.Namespace | tuple[argparse.Namespace, list[str]]:
        if frame.f_globals.get("__name__") != "hydra.main" or self.session.forked:
            return real(parser, args, namespace)
        _warm_up()
        request = self.session.branch()
        self._intercept()
        words = sys.argv[1:] if request is self.session.first else request["arguments"]
        sys.argv = [sys.argv[0], *words, *PRINT]  # type: ignore[misc]
        return real(parser, None, namespace)

    def _intercept(self) -> None:
        """Have the configuration that Hydra prints come here."""
        from hydra._internal.hydra import Hydra
        from omegaconf import OmegaConf

        text, compose = OmegaConf.to_yaml, Hydra.compose_config

        def to_yaml(config: object, **options: bool) -> str:
            if sys._getframe(1).f_globals.get("__name__") != Hydra.__module__:
                return text(config, **options)
            for folder in _folders():
                self.session.used.list_folder(folder)
            self.session.reply({"values": plain(OmegaConf.to_container(config, resolve=True, enum_to_str=True))})

        def compose_config(hydra: Hydra, **options: object) -> DictConfig:
            config = compose(hydra, **options)  # type: ignore[arg-type]
            _fill_output_folder(config)
            return config

        for owner, name, function in (
            (OmegaConf, "to_yaml", staticmethod(to_yaml)),
            (Hydra, "compose_config", compose_config),
        ):
            setattr(owner, name, function)


def _warm_up() -> None:
    """Do once what each forked process would do: find the plug-ins, and learn the grammar of overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.plugins import Plugins

    Plugins.instance()
    OverridesParser.create().parse_overrides(["a=1", "a.b=[x,'y']", "+c={d:1e-3}", "~e", "f/g@h=i_j"])


def _fill_output_folder(config: DictConfig) -> None:
    """`hydra.runtime.output_dir`, which Hydra knows when it runs a job, and not when it prints."""
    from omegaconf import OmegaConf, open_dict, read_write

    runtime = OmegaConf.select(config, "hydra.runtime")
    if runtime is not None and OmegaConf.is_missing(runtime, "output_dir"):
        with read_write(runtime), open_dict(runtime):
            runtime.output_dir = os.path.abspath(str(OmegaConf.select(config, "hydra.run.dir")))


def _folders() -> list[str]:
    """Folders in which Hydra looks for configurations: a new file there may be one that a defaults list wants."""
    from hydra.core.hydra_config import HydraConfig

    found = []
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file":
            found.append(source.path)
        elif source.schema == "pkg" and source.path and not source.path.startswith("hydra"):
            name, *rest = source.path.replace("/", ".").split(".")
            places = getattr(sys.modules.get(name), "__path__", [])
            found.extend(os.path.join(place, *rest) for place in places)
    return [folder for folder in found if os.path.isdir(folder)]
