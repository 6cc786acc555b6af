"""Tasks that note which processes come to them; imported by the jobs of `test_slurm_team`."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import read_json, write_json
from ablative.study.trainers import JobTask

TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURMD_NODENAME")


def execute(job: JobTask) -> None:
    """Meet the other processes, note who was there, and stay until the home's file `go` is there."""
    root = job.paths.root
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    links = _meet(rank, size)
    attempt = len(list(root.glob(f"seen.{rank}.*")))
    seen = {name: os.environ.get(name) for name in TOLD} | {"pid": os.getpid()}
    write_json(root / f"seen.{rank}.{attempt}.json", seen)
    while not (job.home.root / "go").exists():
        if job.stop():
            raise Interrupted("stopped")
        time.sleep(0.02)
    if rank == 0:
        assert len(links) == size - 1
        write_json(root / "record.json", {"state": "completed", "seconds": 1.0})


def _meet(rank: int, size: int) -> list[socket.socket]:
    """Connections between the first process and the others, at the address that they were told."""
    if size == 1:
        return []
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank == 0:
        with socket.create_server(("", address[1]), backlog=size) as listener:
            return [listener.accept()[0] for _ in range(size - 1)]
    while True:
        try:
            return [socket.create_connection(address)]
        except ConnectionRefusedError:
            time.sleep(0.05)


def seen(root: Path, attempt: int = 0) -> dict[int, dict[str, str]]:
    """What the processes of an attempt noted, by rank."""
    found = {int(path.name.split(".")[1]): read_json(path) for path in root.glob(f"seen.*.{attempt}.json")}
    return {rank: value for rank, value in sorted(found.items()) if value is not None}
