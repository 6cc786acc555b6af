"""What is published of GPUs: peak arithmetic and power, for utilisation, estimates of time and of energy."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True)
class Device:
    """One row of `devices.json`."""

    name: str
    """Whole words of the name that the driver gives the device: `H100 PCIe`."""
    bf16: float
    """Dense tensor-core peak in FLOP/s, without sparsity."""
    fp32: float
    """Dense tensor-core peak in FLOP/s of fp32 products, which run as TF32."""
    watts: float
    """Published thermal design power of one device: what it draws at most, not what it drew."""
    source: str

    def peak(self, precision: str) -> float:
        """FLOP/s; `precision` as in `ScheduleConfig`."""
        return {"bf16": self.bf16, "fp32": self.fp32}[precision]


@functools.cache
def known() -> tuple[Device, ...]:
    """Every device of `devices.json`; of those that match a name, the first is meant."""
    rows = json.loads((Path(__file__).parent / "devices.json").read_text())
    return tuple(Device(**row) for row in rows)


@functools.cache
def find(name: str) -> Device | None:
    """The device that a driver's or a cluster's name means (`NVIDIA H100 80GB HBM3`, `a100`); None: not known.

    >>> find("nvidia_h100_pcie").name
    'H100 PCIe'
    """
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    return next((device for device in known() if set(device.name.lower().split()) <= set(words)), None)


def label(name: str) -> str:
    """Short name of a device: the table's, or else the driver's own."""
    found = find(name)
    return found.name if found is not None else name.removeprefix("NVIDIA ")


def driven() -> str:
    """Name of this machine's first GPU, from the driver's files in /proc; empty where there is none."""
    for path in sorted(DRIVER.glob("gpus/*/information")):
        if found := re.search(r"^Model:\s*(.+)$", path.read_text(), re.MULTILINE):
            return found.group(1).strip()
    return ""


def driver_version() -> str:
    """Version of the GPUs' driver, such as `550.54`; empty where there is none."""
    try:
        text = (DRIVER / "version").read_text()
    except OSError:
        return ""
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text)
    return found.group(1) if found else ""
