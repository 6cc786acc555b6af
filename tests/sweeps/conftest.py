"""A SLURM that the files with a `world` share: one after the other, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_world


@pytest.fixture(scope="session")
def cluster_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("slurm")
    with slurm_world.daemons(folder):
        yield folder


@pytest.fixture(scope="module")
def world(cluster_of_tests: Path) -> Iterator[Path]:
    """Folder of a controller with four virtual nodes, for the file's tests, which find and leave no jobs there."""
    with slurm_world.chosen(cluster_of_tests):
        yield cluster_of_tests
        slurm_world.tidy()
