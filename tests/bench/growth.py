"""What a process holds, and whether that grows: memory, descriptors, threads."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMITS = {"memory": 10 * 1024 * 1024, "descriptors": 12, "threads": 12}
"""How much of each is allowed: bytes; what the tools' own connections come and go by."""


@dataclass(frozen=True)
class Sample:
    """A process at one moment; memory in bytes."""

    memory: int
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """Look at a process."""
    place = Path(f"/proc/{pid}")
    facts = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    memory = int(facts["VmRSS"].split()[0]) * 1024
    return Sample(memory, len(os.listdir(place / "fd")), int(facts["Threads"]))


def _thirds(samples: list[Sample], name: str) -> tuple[list[int], list[int]]:
    """Return a figure in the first third of the time, and in the last."""
    figures = [getattr(one, name) for one in samples]
    third = max(len(figures) // 3, 1)
    return figures[:third], figures[-third:]


def found(samples: list[Sample]) -> list[str]:
    """Say what has grown: the most of the last third is more than the most of the first."""
    wrong = []
    for name, limit in LIMITS.items():
        first, last = _thirds(samples, name)
        if max(last) - max(first) > limit:
            wrong.append(f"{name} grew from {max(first)} to {max(last)}")
    return wrong


def course(samples: list[Sample]) -> Iterator[str]:
    """Yield a line for each figure: usual value in the first third and in the last, and the most."""
    for name in LIMITS:
        first, last = _thirds(samples, name)
        most = max(getattr(one, name) for one in samples)
        unit, scale = (" MB", 1e6) if name == "memory" else ("", 1.0)
        begins, ends = statistics.median(first) / scale, statistics.median(last) / scale
        yield f"{name:<32}{begins:.1f} → {ends:.1f}{unit}, at most {most / scale:.1f}{unit}"
