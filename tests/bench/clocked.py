"""Run a `.pyz` with a wall clock that another process can set: `clocked.py OFFSET_FILE PYZ ARGUMENTS…`.

The file holds the seconds to add to `time.time()`; monotonic time stays what it is, as when
the clock of a running machine is corrected.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

offset_file, program = Path(sys.argv[1]), sys.argv[2]
real_time = time.time


def shifted_time() -> float:
    """Return the time of day, wrong by what the file says."""
    try:
        return real_time() + float(offset_file.read_text() or 0)
    except (OSError, ValueError):
        return real_time()


time.time = shifted_time
sys.argv = [program, *sys.argv[3:]]
runpy.run_path(program, run_name="__main__")
