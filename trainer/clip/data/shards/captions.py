"""Captions of samples in shards: from a `.txt`, or from a key of the JSON."""

from __future__ import annotations

from typing import Any

from ablative.study.core.errors import ConfigError, DataError, UnfitDataError, unknown
from ablative.trainer.clip.data.shards.shard_files import ShardFiles


def check_caption(files: ShardFiles, caption: str, where: str) -> None:
    """Raise ConfigError unless a caption source (`txt` or `json.<key>`) occurs in some of the samples."""
    if caption != "txt" and not caption.startswith("json."):
        raise ConfigError(f"{where}: caption '{caption}'; expected txt, or json.<key> for a key of the JSON")
    samples = files.probe()
    key = caption.removeprefix("json.")
    keys = {name for i in samples for name, value in _json(files, i).items() if captions_of(value)}
    if caption == "txt" and not any(files.read(i, "txt") is not None for i in samples):
        offered = f"; the JSON has {', '.join(f'json.{name}' for name in sorted(keys))}" if keys else ""
        raise UnfitDataError(f"{where}: caption=txt, but the samples have no .txt{offered}")
    if caption != "txt" and key not in keys:
        raise UnfitDataError(unknown("JSON key", key, keys, f"{where}: caption={caption}"))


def _json(files: ShardFiles, i: int) -> dict[str, Any]:
    try:
        return files.read_json(i)
    except DataError:
        return {}


def one_caption(files: ShardFiles, i: int, caption: str, chosen: float = 0.0) -> str:
    """The one of `all_captions` that `chosen` in [0, 1) means, of which 0 is the first; "" where there is none."""
    found = all_captions(files, i, caption)
    return found[int(chosen * len(found))] if found else ""


def all_captions(files: ShardFiles, i: int, caption: str) -> list[str]:
    """Captions of sample i, none empty: the `.txt`, or what `json.<key>` holds, a string or a list of strings."""
    if caption == "txt":
        return captions_of(files.read_text(i))
    return captions_of(files.read_json(i).get(caption.removeprefix("json.")))


def captions_of(value: Any) -> list[str]:
    """Strings in a JSON value, stripped; numbers, objects and empty strings are no captions."""
    found = value if isinstance(value, list) else [value]
    return [text.strip() for text in found if isinstance(text, str) and text.strip()]
