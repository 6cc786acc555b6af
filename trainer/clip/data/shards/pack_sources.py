"""What people have image-text pairs in: folders, tables, JSONL and COCO captions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablative.study.core.errors import ConfigError, DataError, unknown
from ablative.study.core.plurals import counted
from ablative.trainer.clip.data.images.image_files import PICTURES, UNREAD, visible_files
from ablative.trainer.clip.data.shards.text_files import BadRow, Row, Table, file_of, lines_of, read_text

MASKS = (".seg.png", ".mask.png")
"""Files next to `x.jpg` that go into its sample: `x.seg.png`, `x.mask.png`."""
IMAGE_COLUMNS = ("image", "file", "filepath", "path", "file_name", "filename", "image_name", "image_path")
CAPTION_COLUMNS = ("caption", "text", "title", "comment")
TABLES = (".csv", ".tsv", ".txt", ".token")
JSON_LINES = (".jsonl", ".ndjson")
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""What lists the images of a folder and of those in it, as Hugging Face's `imagefolder` has it."""


@dataclass(frozen=True)
class Item:
    """One image with its captions."""

    image: Path
    captions: tuple[str, ...] = ()
    """The first is the sample's `.txt`."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of it: the sample's `.json`."""
    extras: tuple[tuple[str, Path], ...] = ()
    """Suffix and file: masks."""
    problem: str = ""
    """Why this is no sample; "" where nothing is known against it."""


@dataclass(frozen=True)
class Columns:
    """How to read a table; what is not given is found out."""

    image: str | None = None
    """Column of the image's path; by default the first of `IMAGE_COLUMNS`."""
    caption: str | None = None
    """Column of the caption; by default the first of `CAPTION_COLUMNS`."""
    separator: str | None = None
    """Sign between the fields."""

    @property
    def wanted(self) -> tuple[Sequence[str], Sequence[str]]:
        """Names of either column, in lower case."""
        image = [self.image.strip().lower()] if self.image else IMAGE_COLUMNS
        return image, [self.caption.strip().lower()] if self.caption else CAPTION_COLUMNS


def read_source(source: Path, images: Path | None = None, columns: Columns | None = None) -> list[Item]:
    """The pairs of a folder, table or COCO file, in its order (a folder's by name).

    What cannot be a pair is an item with its `problem`: nothing is left out in silence.

    Args:
        images: folder where relative image paths start; by default that of `source`.

    Raises:
        ConfigError: the columns are not there.
        DataError: the source is missing, empty, of another encoding or of an unknown kind.
    """
    columns = columns or Columns()
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    root = images or (source if source.is_dir() else source.parent)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if source.is_dir():
        items = _folder(source, columns)
        expected = f"no images ({', '.join(PICTURES)})"
    else:
        items = list(_file(source, root, columns))
        expected = "no pairs"
    if not items:
        raise DataError(f"{source}: {expected} in it")
    return items


def _file(source: Path, root: Path, columns: Columns) -> Iterator[Item]:
    suffix = source.suffix.lower()
    if suffix in TABLES:
        table = Table(source, columns.separator, columns.wanted, PICTURES)
        return _rows(table.rows(), source, root, Columns() if table.headless else columns)
    if columns.separator:
        raise ConfigError(f"{source}: no table, so that it has no --separator (tables: {', '.join(TABLES)})")
    if suffix in JSON_LINES:
        return _rows(_json_lines(source), source, root, columns)
    if suffix != ".json":
        raise DataError(
            f"{source}: expected a folder, a table ({', '.join(TABLES)}), a .jsonl or a .json (COCO captions)"
        )
    content = _parse(read_text(source), str(source))
    if isinstance(content, dict):
        return _coco(content, source, root)
    if not isinstance(content, list):
        raise DataError(f"{source}: a {type(content).__name__}; expected COCO captions or a list of objects")
    places = ((f"{source}: [{number}]", value) for number, value in enumerate(content))
    return _rows(((where, _object(value, where)) for where, value in places), source, root, columns)


def _folder(folder: Path, columns: Columns) -> list[Item]:
    """Images at any depth, by `metadata.csv` or `.jsonl` where one lists them, or else each with a `.txt`."""
    files = visible_files(folder)
    images = [path for path in files if path.suffix.lower() in PICTURES and not path.name.lower().endswith(MASKS)]
    texts = any(path.with_suffix(".txt").exists() for path in images[:_PROBED])
    items: list[Item] = []
    for path in (path for path in files if path.name in METADATA):
        try:
            items += _listed(path, folder, columns)
        except ConfigError:
            # It lists something else, if captions are in files.
            if not texts:
                raise
    if columns.separator and not items:
        raise ConfigError(f"{folder}: no metadata.csv in it, so that --separator has no meaning")
    names = {item.image for item in items}
    note = f"not in {METADATA[0]} or {METADATA[1]}, and no .txt of its name" if items else ""
    items += [_with_files(path, folder, note) for path in images if path not in names]
    if items:
        kinds = "convert it to .jpg or .png"
        odd = (path for path in files if path.suffix.lower() in UNREAD and path not in names)
        items += [Item(path, problem=f"{path}: {path.suffix} is not read; {kinds}") for path in odd]
    return items


_PROBED = 1000
"""Images that are asked for a `.txt`, to find out whether a folder has its captions so."""


def _listed(metadata: Path, folder: Path, columns: Columns) -> list[Item]:
    """Items of a `metadata` file; paths in it start at its folder."""
    if metadata.suffix == ".parquet":
        raise ConfigError(
            f"{metadata}: Parquet is not read; write it as {METADATA[0]}: pandas.read_parquet({metadata.name!r})"
            f".to_json({METADATA[0]!r}, orient='records', lines=True)"
        )
    columns = columns if metadata.suffix == ".csv" else dataclasses.replace(columns, separator=None)
    return list(_file(metadata, metadata.parent, columns))


def _with_files(path: Path, folder: Path, note: str) -> Item:
    """An image with the `.txt` and perhaps the `.json` and masks of its name; `note`: why a `.txt` must be there."""
    caption, fields = path.with_suffix(".txt"), path.with_suffix(".json")
    try:
        text = read_text(caption).strip() if caption.exists() else ""
        known = _object(_parse(read_text(fields), str(fields)), str(fields)) if fields.exists() else {}
    except (DataError, OSError) as error:
        return Item(path, problem=str(error))
    if isinstance(known, BadRow):
        return Item(path, problem=known.problem)
    if not text and note:
        return Item(path, problem=f"{path}: {note}")
    extras = tuple((mask[1:], path.with_suffix(mask)) for mask in MASKS if path.with_suffix(mask).exists())
    return Item(path, (text,) if text else (), {"file": str(path.relative_to(folder)), **known}, extras)


def _json_lines(source: Path) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(lines_of(read_text(source)), 1):
        if line.strip():
            where = f"{source}:{number}"
            try:
                yield where, _object(_parse(line, where), where)
            except DataError as error:
                yield where, BadRow(str(error))


def _object(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        return value
    return BadRow(f"{where}: a {type(value).__name__}, expected an object with named fields")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: no JSON ({error})") from None


def _rows(rows: Iterable[tuple[str, Row]], source: Path, root: Path, columns: Columns) -> Iterator[Item]:
    """Items of a table; the columns other than the image's stay in the sample's JSON."""
    image = caption = None
    for where, row in rows:
        if isinstance(row, BadRow):
            yield Item(source, problem=row.problem)
            continue
        if image is None or caption is None:
            image = _column(row, columns.image, IMAGE_COLUMNS, "image", source)
            caption = _column(row, columns.caption, CAPTION_COLUMNS, "caption", source)
        name = str(row.get(image) or "").strip()
        if "://" in name:
            raise DataError(f"{where}: '{name[:60]}' is an address; fetch the images with img2dataset")
        name = name if (root / name).exists() else file_of(name)
        fields = {"file": name, **{key: value for key, value in row.items() if key != image}}
        captions = _captions(row.get(caption))
        problem = f"{where}: no image named" if not name else "" if captions else f"{where}: {name} has no caption"
        yield Item(root / name, captions, fields, problem=problem)


def _column(row: Mapping[str, Any], named: str | None, usual: Sequence[str], what: str, source: Path) -> str:
    """The column that is named, or the first usual one, whatever its case."""
    if named is not None:
        if named not in row:
            raise ConfigError(unknown(f"{what} column", named, row, str(source)))
        return named
    for name in usual:
        found = [column for column in row if str(column).strip().lower() == name]
        if len(found) > 1:
            columns = " and ".join(f"'{column}'" for column in found)
            raise ConfigError(f"{source}: {columns} may both be the {what}; say which with --{what}-column")
        if found:
            return found[0]
    raise ConfigError(
        f"{source}: no column {' or '.join(usual)} for the {what}; say which with --{what}-column "
        f"(there are: {', '.join(map(str, row)) or 'none'})"
    )


def _captions(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(" ".join(text.split()) for text in values if isinstance(text, str) and text.strip())


def _coco(content: Mapping[str, Any], source: Path, root: Path) -> Iterator[Item]:
    """COCO captions: one sample an image, with all its captions in `json.captions`."""
    names: dict[Any, str] = {}
    captions: dict[Any, list[str]] = {}
    strangers: dict[Any, list[int]] = {}
    where = "it"
    try:
        for place, image in enumerate(content["images"]):
            where = f"images[{place}]"
            names[image["id"]] = image["file_name"]
        for place, annotation in enumerate(content["annotations"]):
            where = f"annotations[{place}]"
            own = captions.setdefault(annotation["image_id"], [])
            own.extend(_captions(annotation["caption"]))
            if annotation["image_id"] not in names:
                strangers.setdefault(annotation["image_id"], []).append(place)
    except (KeyError, TypeError) as error:
        lacks = f"lacks {error}" if isinstance(error, KeyError) else f"holds a value of another kind ({error})"
        raise DataError(
            f"{source}: no COCO captions: {where} {lacks}; expected images with id and file_name, "
            "annotations with image_id and caption"
        ) from None
    for number, name in names.items():
        own = captions.get(number, [])
        yield Item(root / name, tuple(own), {"file": name, "id": number, "captions": own})
    for number, places in strangers.items():
        yield Item(
            source,
            problem=f"{source}: annotations[{places[0]}] is of image_id {number}, which images does not list "
            f"({counted(len(places), 'caption')} lost)",
        )
