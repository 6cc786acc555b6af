"""`ablate data`: pack, check, index and show image-text pairs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablative.study.cli import config_dir_option, example, overrides_argument
from ablative.study.core import registry
from ablative.study.core.errors import ConfigError, DataError, StoreError, unknown
from ablative.study.home.paths import home
from ablative.study.spec.sections import cluster_of

if TYPE_CHECKING:
    from ablative.trainer.clip.data.duplicates import ImageReport
    from ablative.trainer.clip.data.pairs.pairs import Pairs
    from ablative.trainer.clip.data.shards.check import ShardReport
    from ablative.trainer.clip.spec.config import DatasetConfig

_LISTED = 5
"""Reasons that are printed; the rest is counted."""
_caption = click.option(
    "--caption", default="txt", show_default=True, metavar="SOURCE", help="txt, or json.KEY for a key of the JSON."
)
_max_broken = click.option(
    "--max-broken",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Largest share of broken samples that still counts as success.",
)


_by = click.option(
    "--fingerprint-by",
    "by",
    default="content",
    show_default=True,
    metavar="content|sample",
    help="What shards are known by, as `data.fingerprint_by`: all bytes, or sizes, headers and 64 files of each.",
)


@click.group(epilog=example("ablate data check shards"))
def data() -> None:
    """Image-text pairs in WebDataset shards: pack, check, index and show them.

    PATTERN is a folder, glob or brace range of .tar or .tar.gz files, as in cc3m/{00000..00331}.tar; a relative one
    starts at $ABLATE_DATA or, where that holds no such thing, at the current folder.
    """


@data.command(epilog=example("ablate data pack captions.csv --out shards"))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the shards.")
@click.option(
    "--shard-size",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1, max=99_999),
    help="Samples in a shard.",
)
@click.option("--images", type=click.Path(path_type=Path), help="Where image paths start [default: SOURCE's folder].")
@click.option("--image-column", help="Column of the image's path [default: image, file, filepath, file_name, …].")
@click.option("--caption-column", help="Column of the caption [default: caption, text, title or comment].")
@click.option("--separator", metavar="SIGN", help="Between a table's fields: , ; | tab [default: found out].")
@_max_broken
def pack(
    source: Path,
    out: Path,
    shard_size: int,
    images: Path | None,
    image_column: str | None,
    caption_column: str | None,
    separator: str | None,
    max_broken: float,
) -> None:
    """Make WebDataset shards from SOURCE.

    SOURCE is a folder of images with a .txt file for each or with a metadata.csv or metadata.jsonl (Hugging Face's
    imagefolder), a table (.csv, .tsv, .txt, .token) or .jsonl with a column for the image's path and one for the
    caption (other columns go into the JSON), or a .json of COCO captions. Rows that are no samples are counted and
    named. The same command continues an interrupted one.
    """
    from ablative.trainer.clip.data.shards.pack import pack as pack_items
    from ablative.trainer.clip.data.shards.pack_sources import Columns, read_source
    from ablative.trainer.clip.data.shards.text_files import separator_of

    items = read_source(source, images, Columns(image_column, caption_column, separator_of(separator)))
    with _bar(len(items), "Packing") as step:
        packed = pack_items(items, out, shard_size, step)
    click.echo(f"{packed.samples} samples in {len(packed.shards)} shards: {out}")
    if packed.skipped:
        click.echo(f"{len(packed.skipped)} of {len(items)} skipped:")
        _list(packed.skipped)
        if len(packed.skipped) > max_broken * len(items):
            raise DataError(f"{len(packed.skipped)} of {len(items)} items were skipped, more than --max-broken allows")


@data.command(epilog=example("ablate data check shards --write images.txt"))
@click.argument("pattern")
@_caption
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@_max_broken
@click.option("--workers", default=0, type=click.IntRange(min=0), help="Processes [default: one for each core].")
@click.option("--exclude", multiple=True, metavar="TEXT", help="Leave out captions with this text, as `data.exclude`.")
@click.option(
    "--against", multiple=True, metavar="SET|SUITE/SET", help="Count pairs with an image of an evaluation set."
)
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    help="List images that occur more than once, or in a SET, for `data.exclude_images`.",
)
@click.option(
    "--no-decoding", is_flag=True, help="Compare images alone, by hashes that `data index --images` has made."
)
@config_dir_option
def check(
    pattern: str,
    caption: str,
    as_json: bool,
    max_broken: float,
    workers: int,
    exclude: tuple[str, ...],
    against: tuple[str, ...],
    write: Path | None,
    no_decoding: bool,
    config_dir: str | None,
) -> None:
    """Read and decode all samples of PATTERN: counts, fingerprint, and what is broken.

    With --against or --write it also counts pairs whose image occurs more than once, and in evaluation sets of the
    suites, byte for byte.
    """
    if no_decoding and not (against or write):
        raise ConfigError("--no-decoding: leaves nothing to do without --against or --write")
    sets = _sets(against, config_dir)
    report = None if no_decoding else _decoded(pattern, caption, workers, exclude)
    images = None
    if (against or write) and (report is None or (not report.unusable and report.findings.usable)):
        images = _images(pattern, caption, exclude, sets)
    if as_json:
        found = (report.to_json() if report else {}) | ({"images": images.to_json()} if images else {})
        click.echo(json.dumps(found, indent=1))
    else:
        described = [_describe(report, caption)] if report else []
        click.echo("\n".join([*described, *(images.lines() if images else ())]))
    if report:
        _judge(report, max_broken)
    if images and write:
        images.write(write)
        if not as_json:
            click.echo(f"{images.left_out} of {images.pairs} pairs are left out with data.exclude_images={write}")


def _decoded(pattern: str, caption: str, workers: int, exclude: tuple[str, ...]) -> ShardReport:
    from ablative.trainer.clip.data.shards.check import check_shards

    with _bars("Reading") as start:
        return check_shards(pattern, caption, home(), start, workers, exclude)


def _sets(against: tuple[str, ...], config_dir: str | None) -> Mapping[str, DatasetConfig]:
    """Before anything is read: a name may be wrong."""
    if not against:
        return {}
    from ablative.trainer.clip.data.evaluated_images import named_sets

    return named_sets(against, config_dir)


def _images(pattern: str, caption: str, exclude: tuple[str, ...], sets: Mapping[str, DatasetConfig]) -> ImageReport:
    from ablative.trainer.clip.data.duplicates import find_duplicates
    from ablative.trainer.clip.spec.config import DataConfig

    data = DataConfig(name=pattern, kind="shards", path=pattern, caption=caption, exclude=exclude)
    return find_duplicates(data, sets, home())


def _judge(report: ShardReport, max_broken: float) -> None:
    """Raise DataError for data that nothing should be trained on."""
    if report.unusable:
        raise DataError(
            f"{len(report.unusable)} of {report.shards} shards are unusable; the first: {report.unusable[0]}"
        )
    if not report.findings.usable:
        raise DataError(f"{report.folder}: none of {report.findings.samples} samples is usable")
    if report.broken_share > max_broken:
        raise DataError(
            f"{report.folder}: {report.findings.broken} of {report.findings.samples} samples are broken "
            f"({report.broken_share:.1%}), more than --max-broken={max_broken:g} allows"
        )


@data.command(
    epilog=example("ablate data index shards", "ablate data index laion --jobs 32 cluster=slurm cluster.hours=4")
)
@click.argument("pattern")
@overrides_argument
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes here [default: none but this], or elements of the array [32]."
)
@click.option("--images", is_flag=True, help="Hash every image, too, which lists for `data.exclude_images` need.")
@_by
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_dir_option
def index(
    pattern: str,
    overrides: tuple[str, ...],
    jobs: int | None,
    images: bool,
    by: str,
    as_json: bool,
    config_dir: str | None,
) -> int:
    """Read the shards of PATTERN once for all plans and runs that take them; what is indexed is not read again.

    Overrides choose where: with cluster=slurm the jobs of an array share what is left, and the command returns at once;
    the same command says later how far they are, and hands over what a job left that ended early. Only `cluster` has
    keys here.
    """
    from ablative.trainer.clip.data.indexing import ENTRIES, index_here, not_indexed
    from ablative.trainer.clip.data.shards.shard_paths import find_shards

    if (by, images) not in ENTRIES:
        raise ConfigError(unknown("kind of fingerprint", by, {by for by, _ in ENTRIES}, "--fingerprint-by"))
    cluster = cluster_of(overrides, config_dir)
    paths = find_shards(pattern)
    left = not_indexed(paths, home(), by, images)
    found: dict[str, object] = {"shards": len(paths), "indexed": len(paths) - len(left)}
    if left and cluster.kind != "local":
        items, name = [str(path) for path in left], f"index-{by}" + ("-images" if images else "")
        dealt = registry.deal_out(home(), name, items, ENTRIES[by, images], cluster, jobs or 0)
        found |= {"queued": dealt.queued, "submitted": dealt.elements, "output": dealt.folder or None}
        click.echo(json.dumps(found) if as_json else _dealt(found))
        if dealt.said:
            click.echo(f"an earlier job said: {dealt.said}", err=True)
        return 0
    with _bar(len(left), "Indexing") if jobs else nullcontext(lambda _: None) as step:
        bad = [
            str(each) for each in index_here(left, home(), by, jobs or 0, step, images) if isinstance(each, DataError)
        ]
    _print_index(pattern, by, found | {"unusable": bad}, as_json)
    return int(bool(bad))


def _dealt(found: Mapping[str, object]) -> str:
    lines = [f"{found['indexed']} of {found['shards']} shards are indexed, jobs have {found['queued']} of the others"]
    if found["submitted"]:
        lines.append(f"{found['submitted']} elements submitted for the rest; they print to {found['output']}")
    return "\n".join(lines)


def _print_index(pattern: str, by: str, found: Mapping[str, object], as_json: bool) -> None:
    """Print what was indexed here; of usable shards their samples and their fingerprint."""
    from ablative.trainer.clip.data.shards.shard_files import ShardFiles
    from ablative.trainer.clip.data.shards.shard_paths import find_shards

    bad = found["unusable"]
    assert isinstance(bad, list)
    if not bad:
        files = ShardFiles(find_shards(pattern), home(), pattern, by)
        found = {**found, "indexed": found["shards"], "samples": len(files), "fingerprint": files.fingerprint}
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['shards']} shards, {len(bad)} unusable")
    _list(tuple(bad))
    for key in ("samples", "fingerprint"):
        if key in found:
            click.echo(f"{key:11}  {found[key]}")


@data.command(epilog=example("ablate data show shapes --out sheet.png"))
@click.argument("pattern", metavar="PATTERN|shapes")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="PNG to write.")
@click.option("--count", default=24, show_default=True, type=click.IntRange(min=1, max=600), help="Number of samples.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the choice.")
@_caption
@_by
def show(pattern: str, out: Path, count: int, seed: int, caption: str, by: str) -> None:
    """Write a contact sheet of samples, drawn from all of PATTERN or from the procedural world."""
    from ablative.trainer.clip.data.images import streams
    from ablative.trainer.clip.data.images.contact_sheet import contact_sheet
    from ablative.trainer.clip.data.sources import open_pairs
    from ablative.trainer.clip.spec.config import DataConfig

    kind = "shapes" if pattern == "shapes" else "shards"
    drawn = count if kind == "shapes" else 0
    wanted = DataConfig(name=pattern, kind=kind, path=pattern, caption=caption, pairs=drawn, fingerprint_by=by)
    pairs = open_pairs(wanted, image_size=88, home=home())
    chosen = (
        range(count) if kind == "shapes" else streams.permutation(streams.stream("sheet", seed), len(pairs))[:count]
    )
    images, captions = zip(*(_sample(pairs, int(i)) for i in chosen), strict=True)
    sheet = contact_sheet(images, captions)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out, "PNG")
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}") from None
    click.echo(f"{len(images)} of {len(pairs)} samples: {out}")


def _sample(pairs: Pairs, i: int) -> tuple[object, str]:
    """Image and caption, or None and what is wrong."""
    try:
        return pairs.image(i), pairs.caption(i) or "(no caption)"
    except DataError as error:
        return None, str(error).rpartition(": ")[2]


def _describe(report: ShardReport, caption: str) -> str:
    found = report.findings
    sizes = ", ".join(f"{width}×{height} ({count})" for (width, height), count in found.sizes.most_common(3))
    rest = f", {len(found.sizes) - 3} other sizes" if len(found.sizes) > 3 else ""
    length = f"{found.words / found.usable:.1f} words on average" if found.usable else "none"
    words = " or ".join(repr(word) for word in report.exclude)
    left_out = f" kept, {report.left_out} left out: their captions hold {words}" if words else ""
    names = ", ".join(path.name for path in report.empty[:_LISTED]) + (" …" if len(report.empty) > _LISTED else "")
    empty = f", {len(report.empty)} of them empty: {names}" if report.empty else ""
    lines = [
        f"{report.shards} shards in {report.folder}{empty}",
        f"samples      {found.samples}{left_out}",
        f"usable       {found.usable}",
        f"broken       {found.broken} ({found.no_caption} without caption, {found.no_image} without a readable image)",
        f"captions     {caption}: {length}",
        f"images       {sizes or 'none'}{rest}",
        f"fingerprint  {report.fingerprint or 'none'}",
    ]
    reasons = [*report.unusable, *found.examples]
    lines += [f"  {reason}" for reason in reasons[:_LISTED]]
    if len(reasons) > _LISTED:
        lines.append(f"  … (--json lists {len(reasons)})")
    return "\n".join(lines)


def _list(reasons: tuple[str, ...]) -> None:
    for reason in reasons[:_LISTED]:
        click.echo(f"  {reason}")
    if len(reasons) > _LISTED:
        click.echo(f"  … and {len(reasons) - _LISTED} more")


@contextmanager
def _bar(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """Progress on a terminal's standard error; yields a function that takes how many more are done."""
    with _bars(label) as start:
        yield start(length)


@contextmanager
def _bars(label: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """A progress bar like `_bar`'s, for a length that becomes known later."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:

        def start(length: int) -> Callable[[int], None]:
            task = progress.add_task(label, total=length)
            return lambda count: progress.advance(task, count)

        yield start
