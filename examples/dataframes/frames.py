"""Results as pandas frames: `ablate run ../claims/study.yaml`, then `python frames.py`, with the same home."""

from ablative.reports import claims, curves, results, table

STUDY = "../claims/study.yaml"

frame = results(STUDY)  # a column for each factor, then seed, metric, value, unit
losses = frame[frame["metric"] == "train/val/loss"]
print(losses.pivot_table(index="width", columns="dropout", values="value", aggfunc=["mean", "std"]).round(3))
print(table(STUDY, "main"))
print(claims(STUDY)[["claim", "verdict"]])
print(curves(STUDY, "train/val/loss").groupby("step")["value"].mean().round(3))
