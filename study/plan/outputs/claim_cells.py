"""Claims against the grid: which cells each arm of a statement means, checked before anything is spent."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.claim_grammar import ArmExpression, Comparison, Sum, arm_text, parse
from ablative.study.spec.design import Cell, allows, cell_name
from ablative.study.spec.outputs import ClaimConfig
from ablative.study.syntax.metric_patterns import expand
from ablative.study.trainers import Metric

if TYPE_CHECKING:
    from ablative.study.spec.study_file import Study

Factors = Mapping[str, Sequence[str]]


class UnansweredError(ConfigError):
    """A claim that reads well, and that the levels and cells of the study cannot answer."""


@dataclass(frozen=True)
class Linear:
    """A weighted sum of cells and a constant."""

    weights: tuple[tuple[float, Cell], ...]
    constant: float = 0.0


@dataclass(frozen=True)
class ClaimContrast:
    """One comparison over cells: `left` against the constant `right`, or, `absolute`, |left| against |right|."""

    text: str
    sign: str
    left: Linear
    right: Linear
    absolute: bool

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that it needs, each once."""
        return tuple(cell for _, cell in (*self.left.weights, *self.right.weights))


@dataclass(frozen=True)
class _Placed:
    """An arm with its cells."""

    text: str
    named: frozenset[str]
    """The factors whose level it gives."""
    cells: tuple[Cell, ...]


def resolve(claim: ClaimConfig, factors: Factors, cells: Sequence[Cell], where: str) -> tuple[ClaimContrast, ...]:
    """A claim's comparisons as weights over the grid's cells.

    An arm is the mean over all cells with its levels that `where` keeps. Raises ConfigError for a level that does not
    exist, and for arms that would be compared over different levels of another factor.
    """
    kept = [cell for cell in cells if allows(cell, claim.where)]
    return tuple(_contrast(each, factors, kept, where) for each in parse(claim.statement, where))


def check_claims(
    study: Study, cells: Sequence[Cell], metrics: Mapping[str, Metric], measured: Collection[tuple[str, str]]
) -> None:
    """Refuse a claim that could never be decided.

    Args:
        study: the study.
        cells: of its grid.
        metrics: by name, all that the study's stages may yield.
        measured: names of cells with the stages that they have.
    """
    unanswered: dict[str, UnansweredError] = {}
    for name, claim in study.claims.items():
        at = f"{study.where}: claims.{name}"
        names = [metric for pattern in claim.metric for metric in _expand(pattern, metrics, at)]
        try:
            contrasts = resolve(claim, study.factors, cells, f"{at}.statement")
        except UnansweredError as error:
            unanswered[name] = error
            continue
        if any(contrast.sign == "~" for contrast in contrasts) and not claim.margin:
            unit = metrics[names[0]].difference_unit
            inside = f" (in {unit})" if unit else ""
            raise ConfigError(f"{at}.margin: missing; '~' needs the difference{inside} that counts as none")
        if claim.estimand == "tasks like these" and (claim.every or len(names) < 2):
            reason = "every task by itself" if claim.every else f"one task, {names[0]}"
            raise ConfigError(
                f"{at}.estimand: 'tasks like these' needs several tasks to average; the claim is on {reason}"
            )
        for cell in (cell for contrast in contrasts for cell in contrast.cells):
            for metric in names:
                if (cell_name(cell), metrics[metric].stage) not in measured:
                    raise ConfigError(f"{at}.metric: '{metric}' is not measured in cell {cell_name(cell)}")
    if unanswered:
        raise ConfigError(_unanswered(unanswered))


def undecidable(study: Study) -> list[str]:
    """Names of claims that the study's seeds cannot decide: one seed shows no spread, unless several tasks do."""
    if len(study.seeds) > 1:
        return []
    return [name for name, claim in study.claims.items() if claim.estimand != "tasks like these"]


def _unanswered(found: Mapping[str, UnansweredError]) -> str:
    """The first error, the other claims of its kind, and the way out of all: a study that starts from another has
    the other's claims, whatever cells it has dropped."""
    others = f"; neither can the cells answer {', '.join(list(found)[1:])}" if len(found) > 1 else ""
    nulls = ", ".join(f"{name}: null" for name in found)
    return f"{next(iter(found.values()))}{others}; without: claims: {{{nulls}}} (all claims away: claims=null)"


def _expand(pattern: str, metrics: Mapping[str, Metric], at: str) -> list[str]:
    found = expand(pattern, list(metrics))
    if not found:
        raise ConfigError(unknown("metric", pattern, metrics, f"{at}.metric"))
    return found


def _contrast(comparison: Comparison, factors: Factors, cells: Sequence[Cell], where: str) -> ClaimContrast:
    left, right = comparison.left, comparison.right
    if not left.absolute and not right.absolute:
        whole = left.plus(right.scaled(-1.0))
        linear = _linear(whole, factors, cells, where)
        target = Linear((), 0.0 - linear.constant)  # not -0.0
        return ClaimContrast(comparison.text, comparison.sign, Linear(linear.weights), target, absolute=False)
    for side in (left, right):
        if not side.absolute and (side.arms or side.constant < 0):
            raise ConfigError(
                f"{where}: '{comparison.text}': an absolute value is compared with another one, or a number from 0 on"
            )
    one, other = _linear(left, factors, cells, where), _linear(right, factors, cells, where)
    return ClaimContrast(comparison.text, comparison.sign, one, other, absolute=True)


def _linear(side: Sum, factors: Factors, cells: Sequence[Cell], where: str) -> Linear:
    """Weights of the cells; those that cancel fall out."""
    arms = [(weight, _placed(arm, factors, cells, where)) for weight, arm in side.arms]
    _check_balance([arm for _, arm in arms], where)
    weights: dict[str, float] = {}
    by_name: dict[str, Cell] = {}
    for weight, arm in arms:
        for cell in arm.cells:
            by_name[cell_name(cell)] = cell
            weights[cell_name(cell)] = weights.get(cell_name(cell), 0.0) + weight / len(arm.cells)
    kept = tuple((weight, by_name[name]) for name, weight in weights.items() if abs(weight) > 1e-12)
    if side.arms and not kept:
        raise ConfigError(f"{where}: the arms cancel, nothing is left to compare")
    return Linear(kept, side.constant)


def _placed(arm: ArmExpression, factors: Factors, cells: Sequence[Cell], where: str) -> _Placed:
    wanted: dict[str, str] = {}
    for text in arm:
        factor, level = level_of(text, factors, where)
        if factor in wanted:
            raise ConfigError(f"{where}: '{arm_text(arm)}' names two levels of {factor}")
        wanted[factor] = level
    found = [cell for cell in cells if wanted.items() <= cell.items()]
    if not found:
        raise UnansweredError(f"{where}: no cell of the study, as `where` leaves it, is '{arm_text(arm)}'")
    return _Placed(arm_text(arm), frozenset(wanted), tuple(found))


def level_of(text: str, factors: Factors, where: str) -> tuple[str, str]:
    """The factor and level that a word of a statement means."""
    owners = [factor for factor, levels in factors.items() if text in levels]
    if len(owners) > 1:
        raise ConfigError(f"{where}: '{text}' is a level of {' and '.join(owners)}; write {owners[0]}.{text}")
    if owners:
        return owners[0], text
    factor, _, level = text.partition(".")
    if level and factor in factors:
        if level not in factors[factor]:
            raise UnansweredError(unknown("level", level, factors[factor], f"{where}: {factor}"))
        return factor, level
    # A word may have taken the level away (`factors.pooling=[map]`), and then the other claims about it fail, too.
    raise UnansweredError(unknown("level", text, [level for levels in factors.values() for level in levels], where))


def _check_balance(arms: Sequence[_Placed], where: str) -> None:
    """Arms are compared over the same levels of every factor that they do not name.

    A factor that one arm does not have at all (the pooling of a model without pooling) must then be settled in the
    others: a mean over its levels would be compared with a single case.
    """
    for one, other in itertools.combinations(arms, 2):
        unnamed = {factor for cell in (*one.cells, *other.cells) for factor in cell} - one.named - other.named
        for factor in sorted(unnamed):
            mine, theirs = ({cell[factor] for cell in arm.cells if factor in cell} for arm in (one, other))
            if mine != theirs and ((mine and theirs) or len(mine | theirs) > 1):
                raise UnansweredError(
                    f"{where}: '{one.text}' and '{other.text}' differ in {factor} ({_listed(mine)} against "
                    f"{_listed(theirs)}); choose one level in brackets or in where"
                )
        if one.named == other.named and len(one.cells) != len(other.cells):
            raise UnansweredError(
                f"{where}: '{one.text}' and '{other.text}' stand for different combinations of "
                f"{_listed(unnamed)}; choose some in where"
            )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
