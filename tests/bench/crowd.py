"""Many processes at once: when each one had written all of its output, and what that was."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Crowd:
    """What became of all of them, over all rounds."""

    calls: int = 0
    took_ms: list[float] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """Of each that failed: its exit code, and what it said."""
    printed: set[str] = field(default_factory=set)

    def percentile(self, part: float) -> float:
        """Return the time within which that part of them was done."""
        ordered = sorted(self.took_ms)
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0

    def start(self, command: Sequence[str], environs: Sequence[Mapping[str, str]]) -> None:
        """Start one process for each environment, all at once, and wait for all of them."""
        began: dict[subprocess.Popen[bytes], float] = {}
        for environ in environs:
            start = time.perf_counter()
            process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            began[process] = start
        outputs = self._read(began)
        for process, output in outputs.items():
            with process:
                error = process.stderr.read() if process.stderr else b""
            self.calls += 1
            if process.returncode or output.count(b"\n") != 1 or error:
                self.words.append(f"exit {process.returncode}: {error.decode().strip()}".replace("\n", " "))
            self.printed.add(output.decode().strip())

    def _read(self, began: dict[subprocess.Popen[bytes], float]) -> dict[subprocess.Popen[bytes], bytes]:
        outputs = dict.fromkeys(began, b"")
        with selectors.DefaultSelector() as waiting:
            for process in began:
                assert process.stdout
                waiting.register(process.stdout, selectors.EVENT_READ, process)
            while waiting.get_map():
                for key, _ in waiting.select():
                    more = os.read(key.fd, 65536)
                    outputs[key.data] += more
                    if not more:
                        waiting.unregister(key.fileobj)
                        self.took_ms.append((time.perf_counter() - began[key.data]) * 1000)
        return outputs
