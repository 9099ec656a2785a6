"""What large settings files cost: setup and teardown of one tool, with a file of about 2 MB.

    python -m tests.bench large

Processor time of this process, so that a busy machine does not count. Exits 1 at a second or more, or when
teardown does not give every byte back.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.tools.machines import Machine, succeeded
from thv_llm.tools import engine

GOAL_S = 1.0
FILLING = "x" * 60


def objects(count: int, indent: int | None) -> str:
    """Return JSON with that many objects in it."""
    value = {"name": FILLING, "list": [1, 2.5], "on": True}
    return json.dumps({f"key{number}": value for number in range(count)}, indent=indent)


def keys(count: int) -> str:
    """Return YAML with that many keys."""
    return "".join(f"key{number}: {FILLING} {FILLING[:10]}\n" for number in range(count))


ROWS: dict[str, tuple[str, Callable[[], str]]] = {
    "JSON, 23,000 objects, one line": ("claude-code", lambda: objects(23_000, None)),
    "JSON, 16,000 objects, in lines": ("claude-code", lambda: objects(16_000, 2)),
    "JSON with comments, 16,000 objects": ("opencode", lambda: "// mine\n" + objects(16_000, 2)),
    "YAML, 25,000 keys": ("aider", lambda: keys(25_000)),
}


def main(arguments: list[str]) -> int:
    """Measure each row and print the table."""
    is_good = not arguments
    print(f"{'file':38}{'MB':>6}{'setup, s':>12}{'teardown, s':>14}")
    for title, (name, text) in ROWS.items():
        tool = engine.by_name(name)
        with tempfile.TemporaryDirectory() as top:
            machine = Machine(Path(top))
            path = Path(machine.place.targets(tool.edits[0])[0])
            machine.write({path: text()})
            before = path.read_bytes()
            times = [_seconds(lambda: machine.setup(tool)), _seconds(machine.teardown)]  # noqa: B023
            is_good &= max(times) < GOAL_S and path.read_bytes() == before
            size = os.path.getsize(path) / 1e6
        print(f"{title:38}{size:6.1f}{times[0]:12.2f}{times[1]:14.2f}", flush=True)
    return 0 if is_good else 1


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    succeeded(work())  # type: ignore[arg-type]
    return time.process_time() - begin
