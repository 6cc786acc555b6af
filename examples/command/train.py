"""Fit a small network to a curve; a script with settings of its own, `--name=value`, and nothing of a study's."""

import contextlib
import json
import math
import os
import random
import sys
from ast import literal_eval

learning_rate = 0.05
width = 8
dropout = 0.0
max_iters = 400
eval_interval = 20
seed = 1337
out_dir = "out"
init_from = "scratch"  # or "resume"

for argument in sys.argv[1:]:
    key, _, value = argument.removeprefix("--").partition("=")
    assert argument.startswith("--") and key in globals(), f"unknown setting {key}"
    with contextlib.suppress(SyntaxError, ValueError):
        value = literal_eval(value)
    assert type(value) is type(globals()[key]), f"{key}: expected {type(globals()[key]).__name__}, found {value!r}"
    globals()[key] = value

random.seed(seed)
points = [(x / 20, math.sin(3 * x / 20) + 0.1 * random.gauss(0, 1)) for x in range(-20, 21)]
train_points, val_points = points[::2], points[1::2]
checkpoint = os.path.join(out_dir, "ckpt.json")

if init_from == "resume":
    with open(checkpoint) as file:
        state = json.load(file)
    first, weights = state["iter"], state["weights"]
else:
    first, weights = 0, [[random.gauss(0, 1) for _ in range(3)] for _ in range(width)]


def forward(x, kept):
    hidden = [math.tanh(a * x + b) * keep for (a, b, _), keep in zip(weights, kept, strict=True)]
    return hidden, sum(h * c for h, (_, _, c) in zip(hidden, weights, strict=True))


def loss(some):
    return sum((forward(x, [1.0] * width)[1] - y) ** 2 for x, y in some) / len(some)


for step in range(first + 1, max_iters + 1):
    # Seeded by the step, so that a resumed run draws what an uninterrupted one does.
    draw = random.Random(seed * 100003 + step)
    x, y = draw.choice(train_points)
    kept = [(draw.random() >= dropout) / (1 - dropout) for _ in range(width)]
    hidden, guess = forward(x, kept)
    error = guess - y
    for unit, h, keep in zip(weights, hidden, kept, strict=True):
        slope = error * unit[2] * (keep - h * h / keep) if keep else 0.0
        unit[0] -= learning_rate * slope * x
        unit[1] -= learning_rate * slope
        unit[2] -= learning_rate * error * h
    if step % eval_interval == 0 or step == max_iters:
        print(f"step {step}: train loss {loss(train_points):.6f}, val loss {loss(val_points):.6f}", flush=True)
        with open(checkpoint + ".new", "w") as file:
            json.dump({"iter": step, "weights": weights, "width": width}, file)
        os.replace(checkpoint + ".new", checkpoint)
