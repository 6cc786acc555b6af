"""The configuration that a Hydra application prints: `python app.py OVERRIDES --cfg job --resolve`, as by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings
from ablative.trainer.program.probes.inside.plain_values import plain
from ablative.trainer.program.probes.program import Invocation, Program

PRINT = ("--cfg", "job", "--resolve")


def printed_configuration(
    invocation: Invocation, program: Program, arguments: Sequence[str], seconds: float
) -> Settings:
    """The configuration; raises ConfigError where the command fails, or prints something else too."""
    command = [str(invocation.interpreter()), *program.options, *program.target, *arguments, *PRINT]
    where = f"{invocation.where}: `{' '.join(['python', *command[1:]])}`"
    try:
        done = subprocess.run(
            command,
            cwd=invocation.cwd,
            env=invocation.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{where} did not end within {seconds:g} s") from None
    if done.returncode != 0:
        text = " ".join(done.stderr.decode(errors="replace").split())
        raise ConfigError(f"{where} failed: {text[:400] or f'exit code {done.returncode}'}")
    return read_printed(done.stdout.decode(errors="replace"), where)


def read_printed(text: str, where: str) -> Settings:
    """Configuration as Hydra's own loader reads it."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found = plain(OmegaConf.to_container(OmegaConf.create(text or "{}")))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{where} printed no configuration: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where} printed no configuration, but {str(found)[:100]!r}")
    return found
