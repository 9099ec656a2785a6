from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) and /proc are Linux")


@linux_only
def test_a_hardened_process_writes_no_core_and_cannot_be_dumped() -> None:
    program = (
        "import ctypes, resource\nfrom thv_llm.system.memory import harden\nharden()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "(0, 0) 0\n"


FOUR_THREADS = """
import re, sys, threading
from thv_llm.system import memory
if sys.argv[1:] == ["shared"]:
    memory.share_one_heap()
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
    command = [sys.executable, "-c", FOUR_THREADS, *arguments]
    top = Path(__file__).parents[2]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=top).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have one heap")
def test_threads_share_one_heap() -> None:
    assert heaps() > 0
    assert heaps("shared") == 0


def test_the_limit_of_descriptors_is_raised_for_this_process_and_not_for_what_it_starts() -> None:
    program = (
        "import resource\nfrom thv_llm.system import memory, processes\n"
        "limit = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "child = lambda: processes.run(['/bin/sh', '-c', 'ulimit -S -n'])\n"
        "with memory.many_descriptors() as most:\n    print(most, limit(), child().strip())\n"
        "print(limit(), child().strip())"
    )

    def run(soft: int, hard: int) -> list[str]:
        limits = f'ulimit -S -n {soft}; ulimit -H -n {hard}; exec "$@"'
        command = ["/bin/sh", "-c", limits, "sh", sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert run(200, 400) == ["400 (400, 400) 200", "(200, 400) 200"]
    assert run(200, 10_000) == ["8192 (8192, 10000) 200", "(200, 10000) 200"]
    assert run(9000, 10_000) == ["8192 (9000, 10000) 9000", "(9000, 10000) 9000"]
