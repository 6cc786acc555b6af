"""COCO's average precision of boxes and masks, by pycocotools (Lin et al. 2014, arXiv 1405.0312)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablative.trainer.clip.data.sets.evaluation import Instances

Entry = dict[str, object]
"""An image, an annotation or a result, in COCO's format."""
KINDS = {"box": "bbox", "mask": "segm"}
"""Kind of metric → what pycocotools calls it."""
STATISTICS = {"ap": 0, "ap50": 1, "ap75": 2}
"""Metric → its place among COCOeval's statistics: the mean over IoU thresholds of 0.5 to 0.95, and at two of them."""


class AveragePrecision:
    """Collects what is there and what was found, image by image; masks are kept run-length encoded."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._images: list[Entry] = []
        self._truth: list[Entry] = []
        self._found: list[Entry] = []

    def add(self, truth: Instances, found: Mapping[str, np.ndarray], height: int, width: int) -> None:
        """Add an image of so many pixels.

        Args:
            truth: its instances; a crowd is no miss, and hides what is found in it.
            found: boxes (k,4), labels (k,), scores (k,), masks bool (k,H,W).
        """
        number = len(self._images) + 1
        self._images.append({"id": number, "height": height, "width": width})
        for box, label, mask, crowd in zip(*truth, strict=True):
            own = {"id": len(self._truth) + 1, "iscrowd": int(crowd), "area": float(mask.sum())}
            self._truth.append({**own, **_object(number, box, int(label), mask)})
        columns = (found[name] for name in ("boxes", "labels", "masks", "scores"))
        for box, label, mask, score in zip(*columns, strict=True):
            self._found.append({**_object(number, box, int(label), mask), "score": float(score)})

    def results(self) -> dict[str, float]:
        """`box_ap`, `box_ap50`, … in percent; 0 where nothing was found."""
        named = {f"{kind}_{name}": 0.0 for kind in KINDS for name in STATISTICS}
        if not self._found:
            return named
        for kind, own in KINDS.items():
            statistics = self._statistics(own)
            named |= {f"{kind}_{name}": 100.0 * float(statistics[place]) for name, place in STATISTICS.items()}
        return named

    def _statistics(self, kind: str) -> np.ndarray:
        # It prints what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            categories = [{"id": number} for number in range(1, self._classes + 1)]
            truth.dataset = {"images": self._images, "annotations": self._truth, "categories": categories}
            truth.createIndex()
            other = "segmentation" if kind == "bbox" else "bbox"
            found = [{key: value for key, value in each.items() if key != other} for each in self._found]
            evaluation = COCOeval(truth, truth.loadRes(found), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        statistics: np.ndarray = evaluation.stats
        return statistics


def _object(image: int, box: np.ndarray, label: int, mask: np.ndarray) -> Entry:
    left, top, right, bottom = (float(value) for value in box)
    return {
        "image_id": image,
        "category_id": label,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8)),
    }
