"""`ablate data` from the outside: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shard_world import config, encoded, numbers, plain, sample, write_shard, write_shards

from ablative.study.cli import main
from ablative.study.home.paths import home
from ablative.trainer.clip.data import duplicates
from ablative.trainer.clip.data.shards import image_hashes
from ablative.trainer.clip.data.shards.shards import ShardPairs


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ABLATE_DATA", raising=False)
    return tmp_path


def ablate(*words: str) -> int:
    return main(["data", *words], standalone=False)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def test_pack_check_show(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["image,caption"]
    for i in range(7):
        (here / f"{i}.png").write_bytes(encoded(plain(30 * i)))
        rows.append(f"{i}.png,a thing number {i}")
    (here / "captions.csv").write_text("\n".join(rows))
    assert ablate("pack", "captions.csv", "--out", "shards", "--shard-size", "3") == 0
    assert capsys.readouterr().out == "7 samples in 3 shards: shards\n"
    assert ablate("check", "shards") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"3 shards in {here / 'shards'}"
    assert "usable       7" in told
    assert "captions     txt: 4.0 words on average" in told
    assert "images       8×8 (7)" in told
    assert ablate("show", "shards", "--out", "sheet.png", "--count", "4") == 0
    sheet = pixels(here / "sheet.png")
    assert sheet.shape == (12 + 246, 12 + 4 * 188, 3)
    tiles = {tuple(sheet[100, 100 + 188 * column]) for column in range(4)}
    assert len(tiles) == 4
    assert tiles <= {tuple(plain(30 * i)[0, 0]) for i in range(7)}
    assert (sheet[192:210, 12:188] < 128).any(), "no caption beneath"


def test_check_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(here / "s", shards=2)
    assert ablate("check", "s", "--json", "--caption", "json.name") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["shards"], found["samples"], found["usable"], found["broken"]) == (2, 10, 10, 0)
    assert found["image_sizes"] == [[8, 8, 10]]
    assert found["words_per_caption"] == 2.0
    assert len(found["fingerprint"]) == 12
    assert main(["data", "check", "s/{00000..00001}.tar", "--json"], standalone=False) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == found["fingerprint"]


def test_check_tells_what_is_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [b"a dog", b"[PERSON] runs", b"<PERSON> and a dog", b""]
    write_shard(here / "s" / "0.tar", [{**sample(i), "txt": text} for i, text in enumerate(words)])
    assert ablate("check", "s", "--exclude", "[PERSON]", "--exclude", "<PERSON>", "--max-broken", "0.5") == 0
    told = capsys.readouterr().out.splitlines()
    assert "samples      2 kept, 2 left out: their captions hold '[PERSON]' or '<PERSON>'" in told
    assert "broken       1 (1 without caption, 0 without a readable image)" in told
    assert ablate("check", "s", "--exclude", "[PERSON]", "--json", "--max-broken", "0.5") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["left_out"], found["usable"]) == (3, 1, 2)
    assert ablate("check", "s/0.tar", "--exclude", "") == 2
    assert "exclude leaves none of 4 samples; every caption holds ''" in capsys.readouterr().err


def test_check_against_evaluation_sets(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of class folders and of shards, and images that occur twice, are left out by the list that is written."""
    images = [0, 1, 2, 0, 3, 1, 4, 5]
    write_shard(here / "s" / "0.tar", [{**sample(i), "png": encoded(plain(n))} for i, n in enumerate(images)])
    for i, name in enumerate(("ant", "bee")):
        (here / "mine" / "test" / name).mkdir(parents=True)
        (here / "mine" / "test" / name / "1.png").write_bytes(encoded(plain(3 + i)))
    write_shard(here / "test" / "0.tar", [{**sample(i), "png": encoded(plain(n))} for i, n in enumerate((1, 70))])
    (here / "suite").mkdir()
    sets = "{own: {kind: image_folder, path: mine, test: 1}, shown: {kind: shards, test_path: test, task: name}}"
    (here / "suite" / "held.yaml").write_text(f"datasets: {sets}\nprotocols: {{zero_shot: [own]}}\n")
    (here / "suite" / "odd.yaml").write_text("datasets: {own: {kind: voc, path: mine}}\nprotocols: {}\n")
    asked = ("check", "s", "--config-dir", ".", "--against")
    assert ablate(*asked, "held/own", "--against", "shown", "--write", "lists/out.txt") == 0
    shown = capsys.readouterr().out.splitlines()
    assert "repeated     4 pairs have one of 2 images that occur more than once" in shown
    assert "evaluated    2 pairs have one of 2 images of held/own, whose test split has 2" in shown
    assert "evaluated    2 pairs have one of 1 images of shown, whose test split has 2" in shown
    assert shown[-1] == "5 of 8 pairs are left out with data.exclude_images=lists/out.txt"
    assert ablate(*asked, "held/own", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == {
        "pairs": 8,
        "repeated_pairs": 4,
        "repeated_images": 2,
        "evaluation_sets": {"held/own": {"images": 2, "shared_images": 2, "pairs": 2}},
        "left_out": 4,
    }
    left = ShardPairs(config(here / "s", exclude_images="lists/out.txt"), home())
    assert numbers(left) == [0, 2, 7]
    # The same, three images at a time, without decoding, and where shards are known by a sample of their content.
    monkeypatch.setattr(duplicates, "AT_ONCE", 3)
    for name in ("first", "sampled"):
        monkeypatch.setenv("ABLATE_HOME", str(here / name))
        assert ablate("index", "s", "--images", *(("--fingerprint-by", "sample") if name == "sampled" else ())) == 0
        with monkeypatch.context() as patched:
            patched.setattr(image_hashes, "_of_sample", None)
            capsys.readouterr()
            assert ablate(*asked, "held/own", "--against", "shown", "--no-decoding", "--write", f"{name}.txt") == 0
        assert capsys.readouterr().out.splitlines()[:3] == shown[-4:-1]
        assert (here / f"{name}.txt").read_text() == (here / "lists" / "out.txt").read_text()
    assert ablate("check", "s", "--no-decoding") == 2
    assert "--no-decoding: leaves nothing to do without --against or --write" in capsys.readouterr().err
    for name, message in (
        ("own", "suites have different sets of this name; say held/own or odd/own"),
        ("shwn", "--against: unknown evaluation set 'shwn'; did you mean 'shown'?"),
        ("hld/own", "unknown suite 'hld'; did you mean 'held'?"),
        ("digits", "--against digits: a set of kind 'digits' is drawn"),
    ):
        assert ablate(*asked, name) == 2
        assert message in capsys.readouterr().err


def test_check_with_several_processes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [sample(i) for i in range(5)]
    write_shard(here / "s" / "0.tar", [files[i % 5] for i in range(3100)])
    assert ablate("check", "s", "--json", "--workers", "2") == 0
    assert json.loads(capsys.readouterr().out)["usable"] == 3100


def test_check_names_what_is_broken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [sample(i) for i in range(20)]
    samples[3]["png"], samples[7]["txt"] = b"x", b""
    write_shard(here / "s" / "0.tar", samples)
    assert ablate("check", "s") == 1
    out, err = capsys.readouterr()
    assert "broken       2 (1 without caption, 1 without a readable image)" in out
    assert "0.tar: sample '000003': no readable image" in out
    assert "0.tar: sample '000007' has no caption (txt)" in out
    assert "2 of 20 samples are broken (10.0%), more than --max-broken=0.01 allows" in err
    assert ablate("check", "s", "--max-broken", "0.1") == 0


def test_check_goes_on_after_an_unusable_shard(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(here / "s", shards=3)
    content = (here / "s" / "00001.tar").read_bytes()
    (here / "s" / "00001.tar").write_bytes(content[:3000])
    assert ablate("check", "s") == 1
    out, err = capsys.readouterr()
    assert "usable       10" in out
    assert "00001.tar: truncated" in out
    assert "1 of 3 shards are unusable" in err
    (here / "s" / "00000.tar").write_bytes(b"")
    (here / "s" / "00002.tar").write_bytes(b"")
    assert ablate("check", "s") == 1
    assert "3 of 3 shards are unusable" in capsys.readouterr().err


def test_check_of_nothing_usable(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(here / "s" / "0.tar", [{**sample(0), "png": b""}])
    assert ablate("check", "s", "--max-broken", "1") == 1
    assert "none of 1 samples is usable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("check", "nowhere"), 1, "no shards match"),
        (("check", "s", "--caption", "json.nme"), 2, "did you mean 'name'?"),
        (("show", "nowhere", "--out", "x.png"), 1, "no shards match"),
        (("show", "shapes", "--out", "file/x.png", "--count", "2"), 1, "cannot write file/x.png"),
        (("pack", "nowhere", "--out", "x"), 1, "nowhere: no such file or folder"),
        (("pack", "s", "--out", "x"), 1, "no images"),
        (("pack", "s"), 2, "Missing option '--out'"),
    ],
)
def test_errors_are_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    write_shards(here / "s", shards=1)
    (here / "file").write_text("")
    assert ablate(*words) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1 or code == 2


def test_pack_refuses_when_much_is_skipped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(10):
        (here / f"{i}.png").write_bytes(encoded(plain(i)))
        (here / f"{i}.txt").write_text("" if i > 7 else "words")
    assert ablate("pack", ".", "--out", "s") == 1
    out, err = capsys.readouterr()
    assert "8 samples in 1 shards: s" in out
    assert "2 of 10 skipped:" in out
    assert "8.png: no caption" in out
    assert "2 of 10 items were skipped, more than --max-broken allows" in err
    assert ablate("pack", ".", "--out", "s", "--max-broken", "0.2") == 0


def test_show_the_procedural_world(here: Path) -> None:
    assert ablate("show", "shapes", "--out", "deep/sheet.png", "--count", "3") == 0
    assert pixels(here / "deep" / "sheet.png").shape == (12 + 246, 12 + 3 * 188, 3)


def test_show_marks_broken_samples(here: Path) -> None:
    write_shard(here / "s" / "0.tar", [{**sample(0), "png": b"x"}, {**sample(1), "txt": ("é" * 500 + " λ").encode()}])
    assert ablate("show", "s", "--out", "sheet.png") == 0
    sheet = pixels(here / "sheet.png")
    centres = {tuple(sheet[100, 100]), tuple(sheet[100, 288])}
    assert centres == {(211, 211, 211), tuple(plain(1)[0, 0])}


def test_show_draws_the_same_samples_for_the_same_seed(here: Path) -> None:
    write_shards(here / "s", shards=3)
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert ablate("show", "s", "--out", f"{name}.png", "--count", "4", "--seed", seed) == 0
    assert (pixels(here / "a.png") == pixels(here / "b.png")).all()
    assert (pixels(here / "a.png") != pixels(here / "c.png")).any()


def test_pack_takes_images_from_another_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "pictures").mkdir()
    (here / "pictures" / "0.png").write_bytes(encoded(plain(30)))
    (here / "captions.tsv").write_text("file\ttext\n0.png\ta thing")
    assert ablate("pack", "captions.tsv", "--images", "pictures", "--out", "shards") == 0
    assert "1 samples in 1 shards" in capsys.readouterr().out
