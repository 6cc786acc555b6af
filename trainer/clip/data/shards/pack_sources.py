"""What people have image-text pairs in: folders with captions, CSV, TSV, JSONL and COCO captions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablative.study.core.errors import ConfigError, DataError, unknown

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MASKS = (".seg.png", ".mask.png")
"""Files next to `x.jpg` that go into its sample: `x.seg.png`, `x.mask.png`."""
IMAGE_COLUMNS = ("image", "file", "filepath", "path")
CAPTION_COLUMNS = ("caption", "text", "title")


@dataclass(frozen=True)
class Item:
    """One image with its captions."""

    image: Path
    captions: tuple[str, ...]
    """The first is the sample's `.txt`."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of it: the sample's `.json`."""
    extras: tuple[tuple[str, Path], ...] = ()
    """Suffix and file: masks."""


def read_source(
    source: Path, images: Path | None = None, image_column: str | None = None, caption_column: str | None = None
) -> list[Item]:
    """The pairs of a folder, table or COCO file, in its order (a folder's by name).

    Args:
        images: folder where relative image paths start; by default that of `source`.
        image_column: column of the image's path; by default the first of `IMAGE_COLUMNS`.
        caption_column: column of the caption; by default the first of `CAPTION_COLUMNS`.

    Raises:
        ConfigError: the columns are not there.
        DataError: the source is missing, empty, damaged or of an unknown kind.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    root = images or (source if source.is_dir() else source.parent)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if source.is_dir():
        items = list(_folder(source))
        expected = f"no images ({', '.join(PICTURES)})"
    else:
        items = _file(source, root, image_column, caption_column)
        expected = "no pairs"
    if not items:
        raise DataError(f"{source}: {expected} in it")
    return items


def _file(source: Path, root: Path, image_column: str | None, caption_column: str | None) -> list[Item]:
    suffix = source.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            rows: Iterable[Mapping[str, Any]] = _table(source, "\t" if suffix == ".tsv" else ",")
        elif suffix in (".jsonl", ".ndjson"):
            rows = _json_lines(source)
        elif suffix == ".json":
            content = _parse(source.read_text("utf-8-sig"), str(source))
            if isinstance(content, dict):
                return list(_coco(content, source, root))
            rows = content
        else:
            raise DataError(
                f"{source}: expected a folder, or a file of kind .csv, .tsv, .jsonl or .json (COCO captions)"
            )
        return list(_rows(rows, source, root, image_column, caption_column))
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: no UTF-8 ({error})") from None
    except csv.Error as error:
        raise DataError(f"{source}: {error}") from None


def _folder(folder: Path) -> Iterator[Item]:
    """Images at any depth, each with its caption in a `.txt` of the same name and perhaps a `.json`."""
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        if path.suffix.lower() not in PICTURES or name.endswith(MASKS) or name.startswith("."):
            continue
        caption, fields = path.with_suffix(".txt"), path.with_suffix(".json")
        text = caption.read_text("utf-8-sig", errors="replace").strip() if caption.exists() else ""
        known = _parse(fields.read_text("utf-8-sig"), str(fields)) if fields.exists() else {}
        if not isinstance(known, dict):
            raise DataError(f"{fields}: expected a JSON object")
        extras = tuple((mask[1:], path.with_suffix(mask)) for mask in MASKS if path.with_suffix(mask).exists())
        yield Item(path, (text,) if text else (), {"file": str(path.relative_to(folder)), **known}, extras)


def _table(source: Path, delimiter: str) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(1 << 24)
    with source.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter=delimiter):
            yield {name: value for name, value in row.items() if name is not None}


def _json_lines(source: Path) -> Iterator[Mapping[str, Any]]:
    with source.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _parse(line, f"{source}:{number}")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: no JSON ({error})") from None


def _rows(
    rows: Iterable[Mapping[str, Any]], source: Path, root: Path, image_column: str | None, caption_column: str | None
) -> Iterator[Item]:
    """Items of a table; the columns other than the image's stay in the sample's JSON."""
    image = caption = None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{source}: row {number} is a {type(row).__name__}, expected an object with named fields")
        if image is None or caption is None:
            image = _column(row, image_column, IMAGE_COLUMNS, "image", source)
            caption = _column(row, caption_column, CAPTION_COLUMNS, "caption", source)
        name = str(row.get(image) or "").strip()
        if "://" in name:
            raise DataError(f"{source}: row {number}: '{name[:60]}' is an address; fetch the images with img2dataset")
        fields = {"file": name, **{key: value for key, value in row.items() if key != image}}
        yield Item(root / name, _captions(row.get(caption)), fields)


def _column(row: Mapping[str, Any], named: str | None, usual: tuple[str, ...], what: str, source: Path) -> str:
    """The column that is named, or the first usual one, whatever its case."""
    if named is not None:
        if named not in row:
            raise ConfigError(unknown(f"{what} column", named, row, str(source)))
        return named
    by_case = {str(name).strip().lower(): name for name in row}
    for name in usual:
        if name in by_case:
            return by_case[name]
    raise ConfigError(
        f"{source}: no column {' or '.join(usual)} for the {what}; say which with --{what}-column "
        f"(there are: {', '.join(map(str, row)) or 'none'})"
    )


def _captions(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(" ".join(text.split()) for text in values if isinstance(text, str) and text.strip())


def _coco(content: Mapping[str, Any], source: Path, root: Path) -> Iterator[Item]:
    """COCO captions: one sample an image, with all its captions in `json.captions`."""
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        captions: dict[Any, list[str]] = {number: [] for number in names}
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].extend(_captions(annotation["caption"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{source}: no COCO captions ({error} is missing); expected images with id and file_name, "
            "annotations with image_id and caption"
        ) from None
    for number, name in names.items():
        own = tuple(captions[number])
        yield Item(root / name, own, {"file": name, "id": number, "captions": list(own)})
