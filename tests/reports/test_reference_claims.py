"""The papers' claims on their printed numbers: verdicts that were checked by reading the papers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from missing import program

from ablative.reports.reference.claims import evaluate_reference_claims, metric_name
from ablative.reports.reference.values import printed_values
from ablative.reports.tables.escape import latex
from ablative.reports.verdicts.claim_tables import CLAIM_RENDERERS
from ablative.reports.verdicts.claims import ClaimResult
from ablative.study.core.errors import ConfigError
from ablative.study.installed_trainers import conf_folders

(CONF,) = conf_folders()

SUPPORTED = {
    "mae_clip": {
        "small_gain_vtab",
        "large_gap_over_max_vtab",
        "segmentation_gain_mean",
        "finetune_large",
        "masking_strategies_same",
    },
    "maskclip": {
        "self_supervision_helps",
        "best_on_average",
        "order",
        "more_epochs_keep_the_gain",
        "efficient_on_average",
        "zero_shot_25",
        "zero_shot_25_long",
        "retrieval",
        "retrieval_long",
        "mean_teacher_on_average",
        "more_data",
    },
}
"""Over several tasks; the printed numbers have one seed, so that a claim on one number is never decided."""

DISAGREE = {
    "mae_clip": {
        "small_over_either_vtab",  # M3AE's VTAB average (69.3) is above MAE-CLIP's (65.3)
        "gap_beats_map_imagenet",  # zero-shot: 29.3 and 33.5 against 29.7 and 33.8
        "max_beats_map_vqa",  # 63.5 and 68.5 against 64.4 and 68.9
        "pooled_gain_1_imagenet",  # with GAP, ImageNet still gains 2.7
        "pooled_gain_1_vtab",  # with MAX, VTAB gains 0.4
        "gap_moves_more_imagenet",  # zero-shot and VQA move more with MAE than with GAP
        "gap_moves_more_vqa",
        "max_moves_more_imagenet",  # likewise with MAX
        "max_moves_more_vqa",
        "large_same_imagenet",  # zero-shot loses 4.4 (GAP) and 2.8 (MAX)
        "large_same_vqa",  # CLEVR gains 5.0 and 4.4
        "m3ae_natural",  # SVHN: 67.8 against MAE-CLIP MAX's 62.1
        "between_natural",  # with GAP, MAE-CLIP is above CLIP, for SVHN's sake
    },
    "maskclip": set(),
}
"""Claims with which the printed numbers themselves disagree."""


@pytest.fixture(scope="module", params=["mae_clip", "maskclip"])
def judged(request: pytest.FixtureRequest) -> tuple[str, dict[str, ClaimResult]]:
    return request.param, {each.result.name: each.result for each in evaluate_reference_claims(request.param)}


def test_verdicts_are_as_read_in_the_papers(judged: tuple[str, dict[str, ClaimResult]]) -> None:
    paper, claims = judged
    assert len(claims) == {"mae_clip": 61, "maskclip": 33}[paper]
    assert {name for name, result in claims.items() if result.verdict == "supported"} == SUPPORTED[paper]
    assert {result.verdict for result in claims.values()} == {"supported", "undecided"}
    assert {name for name, result in claims.items() if not result.agrees} == DISAGREE[paper]


def test_one_printed_number_has_no_interval(judged: tuple[str, dict[str, ClaimResult]]) -> None:
    for result in judged[1].values():
        assert result.n_seeds == 1 and result.config.source and result.config.text
        for part in result.parts:
            assert (part.effect.low is None) == (result.config.estimand == "these tasks")


def test_effects_by_hand() -> None:
    claims = {each.result.name: each.result for each in evaluate_reference_claims("mae_clip")}
    [gain] = claims["small_gain_vtab"].parts  # Table 2's averages are 65.3 and 61.8, of rounded numbers
    assert gain.effect.estimate == pytest.approx(3.45, abs=0.005) and gain.favourable == 13
    # Table 4: the gain on ImageNet falls from 6.3 to 2.7, on VTAB from 3.5 to 1.1
    for name, change in (("gap_shrinks_gain_imagenet", -3.6), ("gap_shrinks_gain_vtab", -2.4)):
        assert [part.effect.estimate for part in claims[name].parts] == pytest.approx([change])
    # Table 12: MAX against MAP 18.6 - 8.75 and so on (mean 10.22), twice self-supervision's 1.10
    [moves] = claims["pooling_moves_segmentation"].parts
    map_, max_ = (8.4 + 4.6 + 19.1 + 9.1 + 5.7 + 20.6) / 6, (16.5 + 9.4 + 36.6 + 17.8 + 11.1 + 36.9) / 6
    gains = (0.7 + 1.1 + 1.5 + 0.9 + 1.4 + 1.0 + 1.3 + 1.7 + 0.3) / 9
    assert moves.effect.estimate == pytest.approx(max_ - map_ - 2 * gains)


def test_sentences_are_shared_with_the_studies() -> None:
    """What the studies claim is held against the printed tables too, in the same words."""
    printed = {each.result.name: each.result.config for each in evaluate_reference_claims("mae_clip")}
    for name in ("mae_clip_small", "mae_clip_large"):
        for claim, sentence in yaml.safe_load((CONF / "claims" / f"{name}.yaml").read_text()).items():
            if claim.startswith("masking_strategies_same"):  # printed are five averages, which the paper's claim is on
                continue
            assert printed[claim].text == sentence["text"] and printed[claim].statement == sentence["statement"]


def test_averages_are_no_tasks() -> None:
    names = {metric_name(value) for paper in ("mae_clip", "maskclip") for value in printed_values(paper)}
    assert {name for name in names if "average" in name} == {name for name in names if name.count("/") == 3}
    assert {"zero_shot/imagenet/top1", "vqa/clevr/accuracy", "retrieval/flickr30k/i2t_r1"} <= names


def test_every_format_holds_every_claim() -> None:
    claims = evaluate_reference_claims("maskclip")
    texts = {suffix: render(claims, "Claims") for suffix, render in CLAIM_RENDERERS.items()}
    assert texts["csv"].count("\n") == 1 + sum(len(each.result.parts) for each in claims)
    for each in claims:
        assert f'title="{each.result.name}"' in texts["html"] and each.result.text in texts["md"]
        assert latex(each.result.text) in texts["tex"].replace(r"\allowbreak{}", "")
    assert "| +3.08 | [+0.58, +5.58] | 1 × 5 | 5 of 5 |" in texts["md"]
    assert "maskclip - clip ~ 5.8" in texts["html"] and "undecided, agrees" in texts["html"]


def test_latex_of_the_claims_compiles(tmp_path: Path) -> None:
    inputs = []
    for paper in ("mae_clip", "maskclip"):
        inputs.append(f"\\input{{{paper}}}")
        text = CLAIM_RENDERERS["tex"](evaluate_reference_claims(paper), "Claims & <verdicts> of 100 %")
        (tmp_path / f"{paper}.tex").write_text(text)
    packages = "\\usepackage{array,booktabs,longtable}\\usepackage[margin=1in]{geometry}"
    document = f"\\documentclass{{article}}{packages}\\begin{{document}}{' '.join(inputs)}\\end{{document}}"
    (tmp_path / "all.tex").write_text(document)
    command = [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_an_unknown_paper_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown paper 'mae_clp'; did you mean 'mae_clip'"):
        evaluate_reference_claims("mae_clp")
