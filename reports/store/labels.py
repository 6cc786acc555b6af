"""How names are printed: of factors, levels, metrics, columns, units and axes, as study and trainer declare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablative.reports.store.measures import Measures
from ablative.study.spec.labels import Label, StudyLabels, joined
from ablative.study.syntax.metric_patterns import expand
from ablative.study.trainers import Metric


class Labels:
    """The printed text of every name of one study; each method takes a name and answers with a `Label`, a text."""

    def __init__(self, declared: StudyLabels, measures: Measures) -> None:
        """`declared`: what the study file says; `measures`: the metrics, which have labels by themselves."""
        self._declared, self._measures = declared, measures

    def factor(self, name: str) -> Label:
        return self._declared.factors.get(name) or Label(name)

    def level(self, factor: str, level: str) -> Label:
        return self._declared.levels.get(factor, {}).get(level) or Label(level)

    def cell(self, levels: Mapping[str, str]) -> Label:
        """`MAE-CLIP, GAP`: the levels of a cell, or of a part of one."""
        return joined(", ", (self.level(*item) for item in levels.items() if item[1])) or Label("all")

    def column(self, text: str) -> Label:
        """The label or the group of a table's column, as the table declares it."""
        return self._declared.columns.get(text) or Label(text)

    def unit(self, unit: str) -> Label:
        return self._declared.units.get(unit) or Label(unit)

    def axis(self, key: str) -> Label:
        """Title of an axis that shows no metric: of a factor, a parameter, a figure's `position`, or `step`."""
        return self._declared.axes.get(key) or self.factor(key)

    def metric(self, name: str) -> Label:
        """`zero-shot top-1, shapes object`, without the unit; what only has a name keeps it, `train val/loss`."""
        metric = self._measures.metric(name)
        what, on = self._parts(metric)
        declared = any(expand(pattern, [name]) for pattern in self._declared.metrics)
        if not (metric.data_set or metric.label or declared):
            return Label(name.replace("/", " ", 1).replace("_", " "))
        return joined(", ", filter(None, [what, on]))

    def metrics(self, names: Sequence[str]) -> Label:
        """Several metrics that are averaged: `linear probe top-1, mean of 8`; a single one as `metric` has it."""
        if len(names) == 1:
            return self.metric(names[0])
        parts = [self._parts(self._measures.metric(name)) for name in names]
        whats = joined(" + ", dict.fromkeys(what for what, _ in parts))
        return joined(", ", [whats, Label(f"mean of {len(names)}")]) if names else Label("")

    def quantity(self, names: Sequence[str]) -> Label:
        """Title of an axis over values of metrics: what is measured and its unit, `zero-shot top-1, digits (%)`."""
        if len(names) == 1 and names[0] in self._declared.axes:
            return self._declared.axes[names[0]]
        unit = self._measures.unit(names)
        text = self.metrics(names)
        return joined("", [text, Label(" ("), self.unit(unit), Label(")")]) if unit else text

    def data_set(self, name: str) -> Label:
        """What a metric is measured on; its whole label where it says no such thing."""
        what, on = self._parts(self._measures.metric(name))
        return on or what

    def _parts(self, metric: Metric) -> tuple[Label, Label]:
        """What is measured, and on which data set."""
        if metric.name in self._declared.metrics:
            return self._declared.metrics[metric.name], Label("")
        parts = metric.name.split("/")
        on = Label(metric.data_set or " ".join(parts[1:-1]).replace("_", " ") * (not metric.label))
        for pattern, label in self._declared.metrics.items():
            if expand(pattern, [metric.name]):
                return label, on
        return Label(metric.label or f"{parts[0]} {parts[-1]}".replace("_", " ")), on
