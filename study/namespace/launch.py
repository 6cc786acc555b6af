"""Start several processes of one program with torch's variables: `python -m ablative.launch 4 -- program word …`.

It runs in the study's interpreter: standard library alone, syntax of Python 3.8.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time


def main(count: int, command: list[str]) -> int:
    """Start them, and end with the first status other than 0; the others are stopped then."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # The signal that stops a program reaches all of its processes; this one waits for them.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, lambda received, frame: None)
    left = [
        subprocess.Popen(command, env=dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), **shared))
        for rank in range(count)
    ]
    status = 0
    while left:
        for process in list(left):
            ended = process.poll()
            if ended is None:
                continue
            left.remove(process)
            if ended and not status:
                status = ended
                for other in left:
                    other.terminate()
        time.sleep(0.05)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[3:]))
