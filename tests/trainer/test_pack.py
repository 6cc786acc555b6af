"""Packing: what people have becomes shards that webdataset and we read alike; interrupted, it continues."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image
from shard_world import config, encoded, plain

from ablative.study.core.errors import AblateError, ConfigError, DataError, StoreError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.shards.pack import Packed, pack
from ablative.trainer.clip.data.shards.pack_sources import Columns, Item, read_source
from ablative.trainer.clip.data.shards.shards import ShardPairs

CAPTIONS = ["one", "two, with a comma", "drei", '"four"', "五"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with `a/0.png` … `a/4.png`."""
    (tmp_path / "images" / "a").mkdir(parents=True)
    for i in range(len(CAPTIONS)):
        (tmp_path / "images" / "a" / f"{i}.png").write_bytes(encoded(plain(i)))
    return tmp_path / "images"


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def source_of(kind: str, images: Path) -> Path:
    """The five pairs as a folder, table or COCO file beside the images."""
    rows = [{"image": f"a/{i}.png", "caption": caption, "label": i} for i, caption in enumerate(CAPTIONS)]
    if kind == "folder":
        for i, caption in enumerate(CAPTIONS):
            (images / "a" / f"{i}.txt").write_text(caption)
        return images
    path = images / f"pairs.{kind}"
    if kind in ("csv", "tsv"):
        return write_table(path, rows)
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        names = [{"id": 10 + i, "file_name": f"a/{i}.png"} for i in range(len(CAPTIONS))]
        said = [{"image_id": 10 + i, "caption": caption} for i, caption in enumerate(CAPTIONS)]
        path.write_text(json.dumps({"images": names, "annotations": [*said, {"image_id": 10, "caption": "again"}]}))
    return path


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset's, of the files that it leaves open
@pytest.mark.parametrize("kind", ["folder", "csv", "tsv", "jsonl", "json"])
def test_shards_that_webdataset_reads(tmp_path: Path, images: Path, kind: str) -> None:
    packed = pack(read_source(source_of(kind, images)), tmp_path / "out", shard_size=2)
    assert packed == Packed(tuple(tmp_path / "out" / f"0000{i}.tar" for i in range(3)), 5, ())
    urls = [str(path) for path in packed.shards]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [their["txt"] for their in theirs] == CAPTIONS
    assert len({their["__key__"] for their in theirs}) == 5
    for i, their in enumerate(theirs):
        np.testing.assert_array_equal(their["png"], plain(i))
        assert their["json"]["file"] == f"a/{i}.png"
    ours = ShardPairs(config(tmp_path / "out"), Home(tmp_path / "home"))
    assert sorted(ours.caption(i) for i in range(5)) == sorted(CAPTIONS)


def test_columns_stay_as_labels(tmp_path: Path, images: Path) -> None:
    pack(read_source(source_of("jsonl", images)), tmp_path / "out")
    pairs = ShardPairs(config(tmp_path / "out"), Home(tmp_path / "home"))
    assert pairs.json(3) == {"file": "a/3.png", "caption": '"four"', "label": 3}


def test_coco_keeps_all_captions(tmp_path: Path, images: Path) -> None:
    pack(read_source(source_of("json", images)), tmp_path / "out")
    pairs = ShardPairs(config(tmp_path / "out", caption="json.captions"), Home(tmp_path / "home"))
    assert pairs.json(0) == {"file": "a/0.png", "id": 10, "captions": ["one", "again"]}


@pytest.mark.parametrize(("image", "caption"), [("file", "text"), ("Filepath", "TITLE"), ("path", "Caption")])
def test_usual_columns(images: Path, image: str, caption: str) -> None:
    items = read_source(write_table(images / "t.csv", [{image: "a/0.png", caption: "c"}]))
    assert (items[0].image, items[0].captions) == (images / "a" / "0.png", ("c",))


def test_named_columns_and_a_folder_of_images(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "t.tsv", [{"image": "no", "pic": "0.png", "alt": "c"}])
    (item,) = read_source(table, images / "a", Columns("pic", "alt"))
    assert (item.image, item.captions) == (images / "a" / "0.png", ("c",))


def outcome(items: list[Item]) -> list[str]:
    """The first caption of each item, or `!` and why it is none, without the folder."""
    places = [item.problem.partition(": ")[0].rpartition("/")[2] for item in items]
    return [
        f"!{place}: {item.problem.partition(': ')[2]}" if item.problem else item.captions[0]
        for item, place in zip(items, places, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("clip.csv", "filepath\ttitle\na/0.png\ta dog, a cat\n", ["a dog, a cat"]),
        ("excel.csv", "sep=;\r\nimage;caption\r\na/0.png;a dog, a cat\r\n", ["a dog, a cat"]),
        ("semicolons.tsv", "image;caption\na/0.png;a\tb\n", ["a b"]),
        # Flickr30k's own list: one of its rows lacks a separator.
        (
            "results.csv",
            'image_name| comment_number| comment\na/0.png| 0| Two "young" guys , one dog\na/0.png| 4   A dog\n',
            ['Two "young" guys , one dog', "!results.csv:3: a/0.png has no caption"],
        ),
        # Flickr8k's lists, with a header and without.
        ("captions.txt", 'image,caption\na/0.png,"A dog , and a cat ."\n', ["A dog , and a cat ."]),
        ("Flickr8k.token.txt", "a/0.png#0\tA dog , a cat .\na/0.png#1\tTwo\n", ["A dog , a cat .", "Two"]),
        ("utf16.csv", "image,caption\na/0.png,été\n".encode("utf-16"), ["été"]),
        ("bom.csv", "image,caption\na/0.png,été\n".encode("utf-8-sig"), ["été"]),
        # What the header does not name, and quotes that fit nothing.
        (
            "commas.csv",
            'image,caption\na/0.png,a dog, a cat\na/1.png,two\na/2.png,three,\na/3.png, "four, spaced"\n',
            ["!commas.csv:2: 3 fields, but the header has 2; a field that holds ','", "two", "three", "four, spaced"],
        ),
        ("open.csv", 'image,caption\na/0.png,"a dog\na/1.png,two\na/2.png,three\n', ['"a dog', "two", "three"]),
        ("swallow.csv", 'image,caption\na/0.png,"a dog\na/1.png,of 5"\na/2.png,three', ['"a dog', 'of 5"', "three"]),
        ("words.csv", 'image,caption\na/0.png,"Go" he said\na/1.png,"say ""hi"""\n', ['"Go" he said', 'say "hi"']),
        ("lines.csv", 'image,caption\r\na/0.png,"two\r\nlines, one caption"\r\n', ["two lines, one caption"]),
        ("last.csv", 'caption,image\n"a dog,a/0.png\ntwo,a/1.png\n"x, y",a/2.png\n', ['"a dog', "two", "x, y"]),
        (
            "a.jsonl",
            '{"file_name": "a/0.png", "text": "one\u2028line"}\n{"file_n\n[1]\n{"text": "none"}\n',
            ["one line", "!a.jsonl:2: no JSON", "!a.jsonl:3: a list", "!a.jsonl:4: no image named"],
        ),
    ],
)
def test_every_row_is_a_pair_or_says_why_not(
    images: Path, name: str, content: str | bytes, expected: list[str]
) -> None:
    (images / name).write_bytes(content.encode() if isinstance(content, str) else content)
    items = read_source(images / name)
    assert [found[: len(wanted)] for found, wanted in zip(outcome(items), expected, strict=True)] == expected
    assert all(item.problem or item.image.is_file() for item in items)


def test_a_separator_that_is_given(images: Path) -> None:
    (images / "t.csv").write_text("image,caption,x:image:caption\n1,2,3:a/0.png:c\n")
    assert outcome(read_source(images / "t.csv", columns=Columns(separator=":"))) == ["c"]
    with pytest.raises(ConfigError, match="no table, so that it has no --separator"):
        read_source(source_of("jsonl", images), columns=Columns(separator=":"))


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_hugging_faces_image_folders(tmp_path: Path, images: Path, name: str) -> None:
    rows = [{"file_name": f"{i}.png", "text": f"caption {i}", "label": i} for i in range(3)]
    lines = [json.dumps(row) for row in rows] if name.endswith("l") else ["file_name,text,label"]
    lines += [] if name.endswith("l") else [f"{row['file_name']},{row['text']},{row['label']}" for row in rows]
    (images / "a" / name).write_text("\n".join(lines))
    (images / "a" / "4.txt").write_text("by its file")
    for source in (images, images / "a"):
        items = read_source(source)
        assert outcome(items) == ["caption 0", "caption 1", "caption 2", outcome(items)[3], "by its file"]
        assert outcome(items)[3].startswith("!3.png: not in metadata.jsonl or metadata.csv, and no .txt")
    assert pack(read_source(images / "a" / name), tmp_path / "out").samples == 3


def test_other_metadata_in_a_folder(images: Path) -> None:
    (images / "metadata.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"metadata.parquet: Parquet is not read; write it as metadata.jsonl"):
        read_source(images)
    (images / "metadata.parquet").rename(images / "metadata.csv")
    (images / "metadata.csv").write_text("artist,year\nKlee,1920\n")
    with pytest.raises(ConfigError, match=r"metadata.csv: no column image or file .*there are: artist, year"):
        read_source(images)
    assert outcome(read_source(source_of("folder", images))) == [*CAPTIONS]


def test_what_programs_leave_in_folders(images: Path) -> None:
    folder = source_of("folder", images)
    for name in (".ipynb_checkpoints/0-checkpoint.png", "a/.0.png", "__MACOSX/a/0.png", "a/@eaDir/0.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(plain(0)))
    assert outcome(read_source(folder)) == CAPTIONS
    (folder / "x.HEIC").write_bytes(b"")
    assert outcome(read_source(folder)) == [*CAPTIONS, "!x.HEIC: .HEIC is not read; convert it to .jpg or .png"]


def test_files_of_a_folder_in_other_encodings(images: Path) -> None:
    folder = source_of("folder", images)
    (folder / "a" / "0.txt").write_bytes("été".encode("latin-1"))
    (folder / "a" / "1.txt").write_bytes("été".encode("utf-16"))
    (folder / "a" / "2.json").write_bytes(b'{"a": "\xe9"}')
    (folder / "a" / "3.json").write_text("[1]")
    found = outcome(read_source(folder))
    assert [text.split(" (")[0] for text in found] == [
        "!0.txt:1: no UTF-8",
        "été",
        "!2.json:1: no UTF-8",
        found[3],
        "五",
    ]
    assert found[3] == "!3.json: a list, expected an object with named fields"


def test_a_captions_image_that_coco_does_not_list(images: Path) -> None:
    path = source_of("json", images)
    content = json.loads(path.read_text())
    content["annotations"] += [{"image_id": 6, "caption": "lost"}, {"image_id": 6, "caption": "too"}]
    path.write_text(json.dumps(content))
    lost = "!pairs.json: annotations[6] is of image_id 6, which images does not list (2 captions lost)"
    assert outcome(read_source(path)) == [*CAPTIONS, lost]


def test_a_folders_json_and_masks(tmp_path: Path, images: Path) -> None:
    folder = source_of("folder", images)
    (folder / "a" / "1.seg.png").write_bytes(b"mask")
    (folder / "a" / "1.json").write_text('{"kind": "x"}')
    assert pack(read_source(folder), tmp_path / "out").samples == 5
    pairs = ShardPairs(config(tmp_path / "out"), Home(tmp_path / "home"))
    assert pairs.extra(1, ".seg.png") == b"mask"
    assert pairs.json(1) == {"file": "a/1.png", "kind": "x"}


def test_formats_keep_their_bytes_or_become_png(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, format in (("a.jpg", "JPEG"), ("b.webp", "WEBP"), ("c.bmp", "BMP"), ("d.gif", "GIF"), ("e.jpg", "PNG")):
        (folder / name).write_bytes(encoded(plain(9), format))
        (folder / name).with_suffix(".txt").write_text(name)
    pack(read_source(folder), tmp_path / "out")
    pairs = ShardPairs(config(tmp_path / "out"), Home(tmp_path / "home"))
    suffixes = [next(s for s in ("jpg", "png", "webp") if pairs.extra(i, s) is not None) for i in range(5)]
    assert suffixes == ["jpg", "webp", "png", "png", "png"]
    assert pairs.extra(0, "jpg") == (folder / "a.jpg").read_bytes()
    np.testing.assert_array_equal(pairs.image(2), plain(9))


def test_unusable_items_are_skipped_and_told(tmp_path: Path, images: Path) -> None:
    folder = source_of("folder", images)
    (folder / "a" / "0.txt").unlink()
    (folder / "a" / "1.txt").write_text(" \n")
    (folder / "a" / "2.png").write_bytes(encoded(np.zeros((64, 64, 3), np.uint8))[:70])
    packed = pack(read_source(folder), tmp_path / "out")
    assert packed.samples == 2
    assert [reason.split(": ")[0].rpartition("/")[2] for reason in packed.skipped] == ["0.png", "1.png", "2.png"]
    assert "no caption" in packed.skipped[0]
    assert "no readable image" in packed.skipped[2]


def test_missing_images_are_told(tmp_path: Path, images: Path) -> None:
    rows = [{"image": "a/0.png", "caption": "c"}, {"image": "a/9.png", "caption": "c"}]
    packed = pack(read_source(write_table(images / "t.csv", rows)), tmp_path / "out")
    assert packed.skipped == (f"{images / 'a' / '9.png'}: No such file or directory",)


def test_the_same_items_give_the_same_bytes(tmp_path: Path, images: Path) -> None:
    items = read_source(source_of("csv", images))
    one, two = (pack(items, tmp_path / name).shards[0].read_bytes() for name in ("one", "two"))
    assert one == two


def test_an_interrupted_packing_continues(tmp_path: Path, images: Path) -> None:
    items = read_source(source_of("csv", images))
    done: list[int] = []

    def interrupt(count: int) -> None:
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(items, tmp_path / "out", 2, interrupt)
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert sorted(first) == ["00000.tar", "00001.tar"]
    packed = pack(items, tmp_path / "out", 2)
    assert packed.samples == 5
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in first} == first
    assert pack(items, tmp_path / "whole", 2).samples == 5
    for path in packed.shards:
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_other_items_do_not_mix_in(tmp_path: Path, images: Path) -> None:
    items = read_source(source_of("csv", images))
    pack(items, tmp_path / "out")
    for changed, size in ((items[:3], 10_000), (items, 2)):
        with pytest.raises(DataError, match=r"out holds shards of something else \(00000.tar\)"):
            pack(changed, tmp_path / "out", size)


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("no.csv", None, DataError, "no such file or folder"),
        ("a.csv", "", DataError, "no pairs in it"),
        ("a.csv", "image,caption\n", DataError, "no pairs in it"),
        (
            "a.csv",
            "url,words\nx,y\n",
            ConfigError,
            r"no column image or file .*--image-column \(there are: url, words\)",
        ),
        ("a.csv", "image,words\nx,y\n", ConfigError, r"no column caption or text .*--caption-column"),
        ("a.csv", "image,caption\nhttp://x/y.jpg,c\n", DataError, "a.csv:2: .* is an address; .*img2dataset"),
        ("a.xml", "x", DataError, "expected a folder, a table .*, a .jsonl or a .json"),
        ("a.csv", "image,caption,caption\n", ConfigError, r"column 'caption' twice \(columns 2 and 3\)"),
        ("a.csv", "image,caption,Caption\nx,y,z\n", ConfigError, "'caption' and 'Caption' may both be the caption"),
        ("a.csv", "i\0m\0a\0g\0e\0", DataError, "holds zero bytes; is it UTF-16"),
        ("a.csv", b"\xff\xfei\0\0\xd8", DataError, "damaged UTF-16"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "x"}], "annotations": [{"image_id": 1}]}',
            DataError,
            r"annotations\[0\] lacks",
        ),
        ("a.json", '{"images": []}', DataError, "no COCO captions: it lacks 'annotations'"),
        ("a.json", "3", DataError, "a int; expected COCO captions or a list"),
        ("a.json", "{", DataError, "no JSON"),
    ],
)
def test_sources_that_cannot_be_read(
    tmp_path: Path, name: str, content: str | bytes | None, kind: type[AblateError], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(kind, match=message):
        read_source(tmp_path / name)


def test_other_bad_sources(tmp_path: Path, images: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("image,caption\nx,é\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv:2: no UTF-8 \(byte 0xe9\); .* iconv -f LATIN1 -t UTF-8 latin.csv"):
        read_source(tmp_path / "latin.csv")
    with pytest.raises(ConfigError, match=r"unknown caption column 'captoin'; did you mean 'caption'\?"):
        read_source(source_of("csv", images), columns=Columns(caption="captoin"))
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_source(source_of("csv", images), images / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no images \(.jpg"):
        read_source(tmp_path / "empty")


def test_nothing_usable(tmp_path: Path, images: Path) -> None:
    with pytest.raises(DataError, match=r"nothing to pack, all 5 items are unusable; the first: .*0.png: no caption"):
        pack(read_source(images), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_cannot_be_written(tmp_path: Path, images: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file"):
        pack(read_source(source_of("csv", images)), tmp_path / "file" / "out")


def test_a_full_disk_then_room(tmp_path: Path) -> None:
    """By a limit on the size of files, which a process can set for itself alone."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    for i in range(4):
        size = 20 if i < 2 else 100
        Image.fromarray(noise[:size, :size]).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("noise")
    code = f"""
import resource, signal
from pathlib import Path
from ablative.study.core.errors import StoreError
from ablative.trainer.clip.data.shards.pack import pack
from ablative.trainer.clip.data.shards.pack_sources import read_source
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    pack(read_source(Path({str(folder)!r})), Path({str(out)!r}), 2)
except StoreError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith(f"cannot write {out}")
    assert sorted(path.name for path in out.iterdir()) == ["00000.tar", "pack.json"]
    assert pack(read_source(folder), out, 2).samples == 4
