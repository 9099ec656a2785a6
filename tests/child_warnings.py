"""Write down every warning of a program that the tests start, so that it fails their run.

`matrix` puts this module into its environments and has each of their Pythons import it. A program
that was told what to do with warnings (`-W`, `-X dev`, PYTHONWARNINGS) does that instead.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TextIO

LOG = os.path.join(sys.prefix, "child-warnings.log")


def write_down(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Append one line to the log; takes what `warnings.showwarning` does."""
    text = f"{filename}:{lineno}: {category.__name__}: {message} ({' '.join(sys.argv[:3])})\n"
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, text.encode(errors="replace"))
    os.close(descriptor)


if not sys.warnoptions:
    warnings.simplefilter("always")
    warnings.showwarning = write_down
