"""Hydra's part: choose config groups, and compose the tree once for each choice."""

from __future__ import annotations

import functools
import glob
import itertools
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.packages import folder as package_folder
from ablative.study.spec.inherit import check_own_factors
from ablative.study.spec.kept_trees import KeptTrees
from ablative.study.syntax.places import Places
from ablative.study.syntax.words import Tree
from ablative.study.syntax.yaml_text import Document, read_document, shown

CONF = package_folder("ablative.study") / "conf"
GROUPS = ("runtime", "cluster")
"""Groups that every study has; its trainer adds others."""


@dataclass(frozen=True)
class Written:
    """What a study's file says, and the files that say it."""

    data: Tree
    """Its content as plain values."""
    documents: tuple[Document, ...]
    """Its own file, then those that it starts from."""


class Composer:
    """Composes configuration trees from the shipped groups, a trainer's, and a user's own `--config-dir`."""

    def __init__(self, config_dir: str | None, shipped: Sequence[Path] = ()) -> None:
        """Look for config groups in the common folder, then in others.

        Args:
            config_dir: the user's folder.
            shipped: folders of trainers; the last `config.yaml` among them is the one that trees start from.
        """
        if config_dir is not None and not Path(config_dir).is_dir():
            raise ConfigError(f"--config-dir {config_dir}: no such folder")
        self.shipped = [CONF, *shipped]
        self.folders = self.shipped + ([Path(config_dir).absolute()] if config_dir else [])
        self.tree = functools.cache(self._tree)
        self._read = functools.cache(read_document)
        self._kept = KeptTrees(self.folders)
        self._check_shadowing()

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
        """The file behind an option; raises ConfigError where it is a link that leads nowhere."""
        paths = [folder / group / f"{option}.yaml" for folder in self.folders]
        found = next((path for path in paths if path.exists()), None)
        if found is None:
            linked = next((path for path in paths if path.is_symlink()), paths[-1])
            raise ConfigError(f"{shown(linked)}: no such file, or a link that leads nowhere")
        return found

    def study(self, name: str) -> Written:
        """The study of this name, or in the file of this path; Hydra's defaults lists work in it."""
        alone = is_path(name)
        if not alone:
            self._check_study(name)
        source = study_file(name) if alone else self.source("study", name)
        documents = self._documents(source)
        if documents[0].empty:
            raise ConfigError(f"{shown(source)}: the file is empty; a study has a name, seeds and factors")
        with Places(documents, {}).naming_lines():
            data = self._study_tree(name, source, documents)
            if not isinstance(data.get("study"), dict):
                raise ConfigError(f"{shown(source)}: '# @package' moves a study's keys away; leave it out")
            check_own_factors(data["study"], documents[0])
        return Written(data["study"], documents)

    def _study_tree(self, name: str, source: Path, documents: Sequence[Document]) -> Tree:
        """The composed tree of a study; Hydra is not asked about a file to which it adds nothing."""
        content = documents[0].alone
        if content is not None:
            return {"study": content}
        if not is_path(name):
            return self._compose(f"study/{name}", [], source.parent.parent)
        texts = [(source.name, *(document.path.read_bytes() for document in documents))]
        return self._kept.get(texts, True, lambda: _compose_alone(source, self.folders))

    def files(self, name: str) -> tuple[Path, ...]:
        """The file of a study, by name or path, then those that it starts from."""
        if not is_path(name):
            self._check_study(name)
        source = study_file(name) if is_path(name) else self.source("study", name)
        return tuple(document.path for document in self._documents(source))

    def _check_study(self, name: str) -> None:
        options = self.options("study")
        if name in options:
            return
        message = unknown("study", name, options)
        places = ("", "study/", "*/", "*/study/")
        near = [path for place in places for path in glob.glob(f"{place}{glob.escape(name)}.yaml")]
        if near:
            message += f"; there is a file of this name, which its path means: {os.path.join('.', near[0])}"
        elif "did you mean" not in message and len(self.folders) == len(self.shipped):
            message += "; a study of your own: its file's path, or --config-dir FOLDER with study/NAME.yaml in it"
        raise ConfigError(message)

    def _documents(self, source: Path) -> tuple[Document, ...]:
        """A study's file and those that it starts from, each read and checked."""
        found = {source.stem: read_document(source)}
        left = list(found[source.stem].defaults)
        while left:
            name = left.pop(0)
            path = source.parent / f"{name}.yaml"
            if not path.exists() and name in self.options("study"):
                path = self.source("study", name)
            if name not in found and path.exists():
                found[name] = read_document(path)
                left += found[name].defaults
        return tuple(found.values())

    def _tree(self, choices: tuple[tuple[str, str], ...], more: tuple[str, ...] = ()) -> Tree:
        """The whole configuration for some group choices; `more`: further overrides in Hydra's grammar."""
        for group, option in choices:
            self.check_choice(group, option, group)
            for folder in self.folders[len(self.shipped) :]:
                if (source := self.source(group, option)).is_relative_to(folder):
                    self._read(source)
        overrides = [*(f"{group}={option}" for group, option in choices), *more]
        return self._compose("config", overrides, self.shipped[-1])

    def _compose(self, name: str, overrides: list[str], main: Path) -> Tree:
        """Compose the primary config `name` of the folder `main`; the other folders serve its defaults list."""
        asked = [name, overrides, self.folders.index(main)]
        return self._kept.get(asked, name.startswith("study/"), lambda: self._compose_now(name, overrides, main))

    def _compose_now(self, name: str, overrides: list[str], main: Path) -> Tree:
        return _compose(name, overrides, main, [folder for folder in self.folders if folder != main])


def is_path(study: str) -> bool:
    """Whether a study is given by its file's path, not by its name."""
    return os.sep in study or study.endswith((".yaml", ".yml"))


def study_file(study: str) -> Path:
    """The file of a study that is given by its path; raises ConfigError where there is none."""
    path = Path(study).absolute()
    if not path.is_file() and (more := path.with_name(f"{path.name}.yaml")).is_file():
        path = more
    if not path.is_file():
        raise ConfigError(f"study {study}: no such file")
    if path.suffix != ".yaml":
        raise ConfigError(f"study {study}: Hydra reads files that end in .yaml only; rename it to {path.stem}.yaml")
    return path


def folder_of(study: str, config_dir: str | None) -> tuple[str, str | None]:
    """Name and config folder of a study that lies in a folder `study`; anything else as it is."""
    if not is_path(study):
        return study, config_dir
    path = study_file(study)
    folder = path.parent.parent
    if path.parent.name != "study" or (config_dir is not None and Path(config_dir).absolute() != folder):
        return study, config_dir
    return path.stem, config_dir or str(folder)


def _compose_alone(source: Path, folders: Sequence[Path]) -> Tree:
    """A study's file from anywhere: it is composed as a member of the group `study`, whose place its folder takes."""
    with tempfile.TemporaryDirectory() as main:
        (Path(main) / "study").symlink_to(source.parent)
        return _compose(f"study/{source.stem}", [], Path(main), folders)


def _compose(name: str, overrides: Sequence[str], main: Path, others: Sequence[Path]) -> Tree:
    """Compose the primary config `name` of the folder `main`; the other folders serve its defaults list."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
    from yaml import YAMLError

    search = [f"hydra.searchpath=[{','.join(map(_quoted, others))}]"] if others else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(main)):
            config = compose(name, overrides=[*overrides, *search])
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except InterpolationResolutionError as error:
        own = "; ${…} in a study means another key of its file, never one of a run's configuration"
        reason = str(error).split("\n")[0] + (own if name.startswith("study/") else "")
        raise ConfigError(f"{str(error.full_key).removeprefix('study.')}: {reason}") from None
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError) as error:
        # The last two are Hydra's for a `defaults:` of another form; no code of ours runs in there.
        place = shown(main / f"{name}.yaml") if name.startswith("study/") else name
        said = " ".join(str(error).split()) or "defaults: not a list of options such as {model: tiny}"
        raise ConfigError(f"{place}: {said}") from None


def _quoted(folder: Path) -> str:
    """A folder as an item of a list in Hydra's grammar, whatever signs its path has."""
    text = re.sub(r"(\\*)'", r"\1\1\\'", f"file://{folder}")
    trailing = len(text) - len(text.rstrip("\\"))
    return f"'{text}{chr(92) * trailing}'"
