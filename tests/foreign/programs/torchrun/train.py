"""Logistic regression by several processes; started by torchrun, which sets the variables of the group."""

import argparse
import json
import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.5)
parser.add_argument("--batch-size", type=int, default=32, help="of one process")
parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--pause", type=float, default=0.03)
parser.add_argument("--save-dir", required=True)
parser.add_argument("--resume", default="")
args = parser.parse_args()

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(args.seed)
truth = torch.randn(16)
model = DistributedDataParallel(torch.nn.Linear(16, 1))
kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[args.optimizer]
optimizer = kind(model.parameters(), lr=args.lr)
first = 0
if args.resume:
    state = torch.load(args.resume)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first = state["step"]
for step in range(first + 1, args.steps + 1):
    generator = torch.Generator().manual_seed((args.seed * 100003 + step) * world + rank)
    x = torch.randn(args.batch_size, 16, generator=generator)
    y = (x @ truth > 0).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(args.pause)
    if step % 5 == 0:
        shared = loss.detach() / world
        dist.all_reduce(shared)
        if rank == 0:
            path = os.path.join(args.save_dir, "last.pt")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save({**state, "truth": truth}, path + ".new")
            os.replace(path + ".new", path)
            with open(os.path.join(args.save_dir, "log.jsonl"), "a") as log:
                print(json.dumps({"iteration": step, "loss": shared.item(), "world": world}), file=log)
dist.destroy_process_group()
