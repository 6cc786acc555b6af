"""Hydra's part: choose config groups, compose the tree once for each choice, parse `key=value` overrides."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.files import read_json, write_json
from ablative.study.core.identity import digest
from ablative.study.core.packages import folder as package_folder
from ablative.study.spec.inherit import check_own_factors

CONF = package_folder("ablative.study") / "conf"
GROUPS = ("runtime", "cluster")
"""Groups that every study has; its trainer adds others."""


KEPT_STAMPS = 3
"""Sets of config folders, besides the one in use, whose composed trees are kept: studies of several trainers."""


Tree = dict[str, Any]
"""Content of a YAML file, or of a composed configuration."""


@dataclass(frozen=True)
class Overrides:
    """Command-line overrides, sorted by what they change."""

    choices: dict[str, str]
    """Config group → option (`model=small`)."""
    values: Tree
    """Key of a configuration → value (`schedule.steps=10`)."""
    study: Tree
    """Key of the study file → value (`seeds=[0,1]`)."""


def parse_words(texts: Sequence[str]) -> Tree:
    """Key → value of `key=value` words, by Hydra's grammar; raises ConfigError for anything else."""
    found: Tree = {}
    if not texts:
        return found  # most commands have none, and are spared Hydra's import, which costs a quarter of a second

    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for text in texts:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            raise ConfigError(f"override '{text}': expected key=value") from None
        if override.is_add() or override.is_delete() or override.is_sweep_override():
            raise ConfigError(f"override '{text}': only key=value is allowed; sweeps are a study's factors")
        found[override.key_or_group] = override.value()
    return found


def sort_words(words: Mapping[str, object], groups: Collection[str], study_keys: Collection[str]) -> Overrides:
    """Words by what they change; keys of configurations are left to the trainer to check."""
    result = Overrides({}, {}, {})
    for key, value in words.items():
        if key in groups:
            result.choices[key] = str(value)
        elif key.split(".")[0] in study_keys:
            result.study[key] = value
        else:
            result.values[key] = value
    return result


class Composer:
    """Composes configuration trees from the shipped groups, a trainer's, and a user's own `--config-dir`."""

    def __init__(self, config_dir: str | None, shipped: Sequence[Path] = (), cache: Path | None = None) -> None:
        """Look for config groups in the common folder, then in others.

        Args:
            config_dir: the user's folder.
            shipped: folders of trainers; the last `config.yaml` among them is the one that trees start from.
            cache: file that keeps composed trees between processes; importing Hydra and composing costs 0.5 s.
        """
        if config_dir is not None and not Path(config_dir).is_dir():
            raise ConfigError(f"--config-dir {config_dir}: no such folder")
        self.shipped = [CONF, *shipped]
        self.folders = self.shipped + ([Path(config_dir).absolute()] if config_dir else [])
        self.tree = functools.cache(self._tree)
        self._check_shadowing()
        self._cache = _TreeCache(cache, self.folders) if cache is not None else None

    def _check_shadowing(self) -> None:
        """Hydra searches the shipped folder first: a file of the same name would be ignored without a word."""
        for folder in self.folders[len(self.shipped) :]:
            for path in folder.glob("*/*.yaml"):
                if any((shipped / path.relative_to(folder)).exists() for shipped in self.shipped):
                    raise ConfigError(f"{path}: ablate ships a {path.parent.name} of this name; choose another name")

    def groups(self) -> list[str]:
        """Names of all config groups."""
        return sorted({path.parent.name for folder in self.folders for path in folder.glob("*/*.yaml")})

    def options(self, group: str) -> list[str]:
        """Names that a config group offers."""
        found = itertools.chain.from_iterable((folder / group).glob("*.yaml") for folder in self.folders)
        return sorted({path.stem for path in found})

    def check_choice(self, group: str, option: object, where: str) -> None:
        if option not in self.options(group):
            raise ConfigError(unknown(group, str(option), self.options(group), where))

    def source(self, group: str, option: str) -> Path:
        """The file behind an option."""
        return next(path for folder in self.folders if (path := folder / group / f"{option}.yaml").exists())

    def study(self, name: str) -> Tree:
        """Content of `study/<name>.yaml` as plain values; Hydra's defaults lists work in it."""
        self.check_choice("study", name, "study")
        source = self.source("study", name)
        data: Tree = self._compose(f"study/{name}", [], source.parent.parent)["study"]
        check_own_factors(data, source.read_text(), f"study/{name}.yaml")
        return data

    def _tree(self, choices: tuple[tuple[str, str], ...], more: tuple[str, ...] = ()) -> Tree:
        """The whole configuration for some group choices; `more`: further overrides in Hydra's grammar."""
        for group, option in choices:
            self.check_choice(group, option, "config group")
        overrides = [*(f"{group}={option}" for group, option in choices), *more]
        return self._compose("config", overrides, self.shipped[-1])

    def _compose(self, name: str, overrides: list[str], main: Path) -> Tree:
        """Compose the primary config `name` of the folder `main`; the other folders serve its defaults list."""
        if self._cache is None:
            return self._compose_now(name, overrides, main)
        return self._cache.get(f"{main}|{name}|{overrides}", lambda: self._compose_now(name, overrides, main))

    def _compose_now(self, name: str, overrides: list[str], main: Path) -> Tree:
        from hydra import compose, initialize_config_dir
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError

        extra = [str(folder) for folder in self.folders if folder != main]
        search = [f"hydra.searchpath=[{','.join('file://' + folder for folder in extra)}]"] if extra else []
        try:
            with initialize_config_dir(version_base="1.3", config_dir=str(main)):
                config = compose(name, overrides=overrides + search)
            return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None


class _TreeCache:
    """Composed trees in one JSON file, each valid while no file of its config folders has changed."""

    def __init__(self, path: Path, folders: Sequence[Path]) -> None:
        self.path = path
        files = sorted(file for folder in folders for file in folder.rglob("*.yaml"))
        stats = [(str(file), stat.st_mtime_ns, stat.st_size) for file in files for stat in [file.stat()]]
        self.stamp = digest(repr(stats))
        try:
            stored = read_json(path) or {}
        except (OSError, ValueError):
            stored = {}
        self.trees: dict[str, Tree] = stored.pop(self.stamp, {})
        self._others = dict(list(stored.items())[-KEPT_STAMPS:])

    def get(self, key: str, make: Callable[[], Tree]) -> Tree:
        if key not in self.trees:
            self.trees[key] = make()
            with contextlib.suppress(OSError):  # a home that cannot be written is the submission's to report
                write_json(self.path, {**self._others, self.stamp: self.trees})
        return self.trees[key]


def set_value(tree: Mapping[str, Any], key: str, value: object) -> Tree:
    """A copy of `tree` with the dotted `key` set; only the touched branches are copied."""
    head, _, rest = key.partition(".")
    branch = tree.get(head, {})
    if rest and not isinstance(branch, Mapping):
        raise ConfigError(f"{key}: '{head}' is a value, it has no keys below it")
    return {**tree, head: set_value(branch, rest, value) if rest else value}
