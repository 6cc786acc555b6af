"""Caches under a digest of the sources are refused once any of those is edited, wherever the packages lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from checkouts import copy_packages, output

GUARDED = {
    "trainer/clip/data/images": ["features", "scores"],
    "trainer/clip/models": ["features", "scores"],
    "trainer/clip/objectives": ["features", "scores"],
    "trainer/clip/protocols": ["scores"],
    "study/core": ["scores"],
    "sweeps/queue": [],
}
"""Folder → the caches (of features, of an evaluation's finished data sets) that an edit of a file in it has to void."""
EDITS = """
import json
from pathlib import Path
from ablative.trainer.clip.evaluate import _code
from ablative.trainer.clip.protocols.parts.features import code_fingerprint

def digests():
    # Processes live shorter than the code that they have loaded: they ask once.
    return {"features": code_fingerprint.__wrapped__(), "scores": _code.__wrapped__()}

before, moved = digests(), {}
for folder in FOLDERS:
    edited = sorted((Path(TOP) / "ablative" / folder).glob("*.py"))[-1]
    content = edited.read_bytes()
    edited.write_bytes(content + b"# edited")
    now = digests()
    moved[folder] = [name for name in now if now[name] != before[name]]
    edited.write_bytes(content)
assert digests() == before
print(json.dumps(moved))
"""
IDENTITIES = """
from ablative.study.core.packages import PACKAGES, folder, source_name, sources_digest
from ablative.study.core.typed import build
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.queue.failures import fingerprint
try:
    build(ClusterConfig, {"kind": 7}, "cluster")
except Exception as error:
    print(fingerprint(error))
print(sources_digest(PACKAGES), source_name(folder("ablative.trainer") / "clip" / "train.py"))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_packages(tmp_path_factory.mktemp("checkout"))


def test_an_edited_file_of_each_package_voids_the_caches_that_it_fills(checkout: Path) -> None:
    constants = f"TOP, FOLDERS = {str(checkout)!r}, {list(GUARDED)!r}\n"
    assert json.loads(output(checkout, constants + EDITS)) == GUARDED


def test_digests_and_failures_are_the_same_wherever_the_packages_lie(checkout: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(checkout, tmp_path / "trainer" / "study"))
    found = output(checkout, IDENTITIES)
    assert found == output(moved, IDENTITIES)
    assert found.endswith(" trainer/clip/train.py")
