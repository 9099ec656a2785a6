"""The service's threads have one heap: what glibc reserves for others is not there."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import re, sys, threading
from thv_llm.service import heap
if sys.argv[1:] == ["shared"]:
    heap.share()
go = threading.Barrier(5)
def work():
    bytes(100_000)
    go.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
maps = open("/proc/self/maps").read()
reserved = re.findall(r"(?m)^(\\w+)-(\\w+) ---p \\S+ 00:00", maps)
sizes = [int(end, 16) - int(start, 16) for start, end in reserved]
print(sum(size > 60_000_000 for size in sizes))
go.wait()
"""


def heaps(*arguments: str) -> int:
    """Return how many further heaps a process with four threads has."""
    command = [sys.executable, "-c", CODE, *arguments]
    top = Path(__file__).parents[2]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=top).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have one heap")
def test_threads_share_one_heap() -> None:
    assert heaps() > 0
    assert heaps("shared") == 0
