"""The language of claims: what it means, and the one error that each mistake gets before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.outputs.claim_cells import check_claims, resolve
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec.claim_grammar import Sum, parse
from ablative.study.spec.design import cell_name
from ablative.study.spec.outputs import ClaimConfig
from ablative.study.spec.study_file import parse_study

FACTORS = {"scale": ("small", "large"), "method": ("clip", "mae_clip", "mae"), "pooling": ("map", "gap")}
CELLS = [
    *(
        {"scale": scale, "method": method, "pooling": pooling}
        for scale in FACTORS["scale"]
        for method in ("clip", "mae_clip")
        for pooling in FACTORS["pooling"]
    ),
    {"scale": "large", "method": "mae"},
]


def weights(statement: str, **where: str) -> dict[tuple[str, ...], float]:
    claim = ClaimConfig(statement=statement, metric=("m",), where={k: (v,) for k, v in where.items()})
    [contrast] = resolve(claim, FACTORS, CELLS, "claim")
    return {tuple(cell.values()): weight for weight, cell in contrast.left.weights}


def test_comparisons_chains_and_conjunctions() -> None:
    found = parse("a > b  > c and 2*(a − b) ≈ 3", "claim")
    assert [(each.sign, each.text) for each in found] == [(">", "a > b"), (">", "b > c"), ("~", "2*(a - b) ~ 3")]
    assert found[2].left == Sum(((2.0, ("a",)), (-2.0, ("b",))))
    [quoted] = parse("|'CLIP+MAE'[map, x.y]| < 1.5 * |b - c|", "claim")
    assert quoted.left == Sum(((1.0, ("CLIP+MAE", "map", "x.y")),), absolute=True)
    assert quoted.right == Sum(((1.5, ("b",)), (-1.5, ("c",))), absolute=True)
    [digits] = parse("2*clip[16k, 2.5e] - 8_bit > 3", "claim")  # no quotes where a level only begins with a digit
    assert digits.left == Sum(((2.0, ("clip", "16k", "2.5e")), (-1.0, ("8_bit",))))


def test_an_arm_is_the_mean_of_its_cells() -> None:
    assert weights("mae_clip > clip", scale="small") == {
        ("small", "mae_clip", "map"): 0.5,
        ("small", "mae_clip", "gap"): 0.5,
        ("small", "clip", "map"): -0.5,
        ("small", "clip", "gap"): -0.5,
    }
    interaction = weights("mae_clip[gap, small] - clip[gap, small] < mae_clip[small, map] - clip[small, map]")
    assert interaction == {
        ("small", "mae_clip", "gap"): 1,
        ("small", "clip", "gap"): -1,
        ("small", "mae_clip", "map"): -1,
        ("small", "clip", "map"): 1,
    }
    assert weights("mae > method.clip[map]", scale="large") == {("large", "mae"): 1, ("large", "clip", "map"): -1}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("a", "expected '>', '<' or '~', found the end"),
        ("a >", "expected a level, a number or '(', found the end"),
        ("a > b c", "expected 'and', a comparison sign or the end, found 'c'"),
        ("a[b > c", "expected ']', found '>'"),
        ("a[b, 16] > c", "(a level that is a number: '16'), found '16'"),
        ("a $ b", "cannot be read at '$ b'; put a level with signs of its own in single quotes"),
        ("1 > 2", "compares no arms"),
        ("|a| ~ b", "'~' compares differences, not absolute values"),
    ],
)
def test_what_cannot_be_read(statement: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(statement, "claim")
    assert words in str(error.value) and str(error.value).startswith("claim: ")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan("demo", (), None, Home(tmp_path_factory.mktemp("home")))


DEMO = {"statement": "mae_clip > clip", "metric": "zero_shot/*/top1", "where": {"scale": "large"}}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"statement": "mae_clp > clip"}, "claims.c.statement: unknown level 'mae_clp'; did you mean 'mae_clip'?"),
        ({"statement": "method.clp > 0"}, "claims.c.statement: method: unknown level 'clp'; did you mean 'clip'?"),
        ({"statement": "clip[map, gap] > 0"}, "'clip[map, gap]' names two levels of pooling"),
        ({"statement": "clip > clip"}, "the arms cancel"),
        ({"statement": "mae_clip[small] > clip"}, "no cell of the study, as `where` leaves it, is 'mae_clip[small]'"),
        (
            {"statement": "masked_clip < clip"},
            "'masked_clip' and 'clip' differ in pooling (none against gap, map, max)",
        ),
        ({"statement": "clip[map] > masked_clip", "where": {}}, "differ in scale (large, small against large)"),
        ({"statement": "|mae_clip - clip| > clip"}, "an absolute value is compared with another one, or a number"),
        ({"statement": "mae_clip ~ clip"}, "claims.c.margin: missing; '~' needs the difference (in points)"),
        ({"statement": "mae > m3ae"}, "top1' is not measured in cell scale=large,method=mae"),
        ({"metric": "zero_shot/shapes_objcet/top1"}, "did you mean 'zero_shot/shapes_object/top1'?"),
        ({"metric": "zero_shot/shapes_object/top1", "estimand": "tasks like these"}, "needs several tasks to average"),
        ({"every": True, "estimand": "tasks like these"}, "the claim is on every task by itself"),
        ({"estimand": "tasks"}, "claims.c.estimand: unknown value 'tasks'; did you mean 'these tasks'?"),
        ({"marign": 1}, "claims.c: unknown key 'marign'; did you mean 'margin'?"),
        ({"margin": -1}, "claims.c.margin: -1.0 is not allowed; it must be at least 0"),
        ({"where": {"scael": "large"}}, "claims.c: unknown factor 'scael'; did you mean 'scale'?"),
    ],
)
def test_each_mistake_is_one_error_before_anything_runs(changed: dict[str, Any], words: str, demo: Plan) -> None:
    source = yaml.safe_load((Path(__file__).parents[2] / "trainer/clip/conf/study/demo.yaml").read_text())
    measured = {(cell_name(cell), task.stage) for task in demo.tasks for cell in task.cells}
    own = ("protocols",)
    with pytest.raises(ConfigError) as error:
        study = parse_study({**source, "claims": {"c": {**DEMO, **changed}}}, "study/demo.yaml", "clip", own, own)
        check_claims(study, demo.cells, demo.declared, measured)
    assert words in str(error.value) and "study/demo.yaml: claims.c" in str(error.value)


def test_a_plan_checks_its_claims(tmp_path: Path) -> None:
    words = [f"claims.large_same.statement='{DEMO['statement']}'", "claims.large_same.estimand=tasks"]
    with pytest.raises(ConfigError, match="did you mean 'these tasks'"):
        make_plan("demo", words, None, Home(tmp_path))
    with pytest.raises(ConfigError, match=r"claims\.large_same\.metric: unknown metric 'zero_shot/none/top1'"):
        make_plan("demo", ["claims.large_same.metric=zero_shot/none/top1"], None, Home(tmp_path))


def test_the_page_on_claims_shows_one_of_the_demo() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "claims.md").read_text()
    shown = next(block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "claims:" in block)
    claims = yaml.safe_load((root / "trainer/clip/conf/study/demo.yaml").read_text())["claims"]
    [(name, claim)] = yaml.safe_load(shown)["claims"].items()
    assert claims[name] == claim


def test_an_ambiguous_level_asks_for_its_factor() -> None:
    factors = {"image": ("map", "gap"), "text": ("map", "gap")}
    cells = [{"image": i, "text": t} for i in factors["image"] for t in factors["text"]]
    with pytest.raises(ConfigError, match=r"'map' is a level of image and text; write image\.map"):
        resolve(ClaimConfig(statement="map > gap", metric=("m",)), factors, cells, "claim")
    [contrast] = resolve(ClaimConfig(statement="image.map > image.gap", metric=("m",)), factors, cells, "claim")
    assert [weight for weight, _ in contrast.left.weights] == [0.5, 0.5, -0.5, -0.5]
