"""How often the next token is right, and how sure the model was; prints it."""

import argparse

import torch
from train import Text
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--count", type=int, default=64)
parser.add_argument("--report", default="")
args = parser.parse_args()

model = AutoModelForCausalLM.from_pretrained(args.model).eval()
tokens = Text(args.count, 3).tokens
with torch.no_grad():
    logits = model(tokens).logits
right = (logits[:, 4:-1].argmax(-1) == tokens[:, 5:]).float().mean().item()
print(f"next token: {right:.1%} right")
if args.report:
    with open(args.report, "w") as file:
        file.write("right\n")
