"""Accuracy of a checkpoint, in one process."""

import argparse
import csv
import os

import torch

parser = argparse.ArgumentParser()
parser.add_argument("checkpoint")
parser.add_argument("--samples", type=int, default=2000)
parser.add_argument("--save-dir", default=".")
args = parser.parse_args()

state = torch.load(args.checkpoint)
x = torch.randn(args.samples, 16, generator=torch.Generator().manual_seed(1))
guess = x @ state["model"]["module.weight"][0] + state["model"]["module.bias"] > 0
accuracy = (guess == (x @ state["truth"] > 0)).float().mean().item()
with open(os.path.join(args.save_dir, "scores.csv"), "w", newline="") as file:
    csv.writer(file).writerows([["set", "accuracy"], ["held out", accuracy]])
