"""Evaluate a checkpoint of train.py on points outside of the range that it was trained on."""

import argparse
import json
import math
import os

parser = argparse.ArgumentParser()
parser.add_argument("--ckpt", required=True)
parser.add_argument("--reach", type=float, default=1.2)
parser.add_argument("--out", default=".")
options = parser.parse_args()

with open(options.ckpt) as file:
    weights = json.load(file)["weights"]
far = [sign * (1 + (options.reach - 1) * i / 10) for i in range(1, 11) for sign in (-1, 1)]
errors = [(sum(c * math.tanh(a * x + b) for a, b, c in weights) - math.sin(3 * x)) ** 2 for x in far]
with open(os.path.join(options.out, "result.json"), "w") as file:
    json.dump({"error": sum(errors) / len(errors)}, file)
