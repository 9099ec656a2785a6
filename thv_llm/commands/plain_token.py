"""`thv-llm token` without options, when no agent answers: no parser, no world, nothing to wait for."""

from __future__ import annotations

import os
from typing import NoReturn

from thv_llm import obtain, paths, shortcut


def main() -> NoReturn:
    """Print a token, or why there is none, and end."""
    try:
        answer = obtain.answer(paths.find(os.environ), os.environ, shortcut.REQUEST)
    except KeyboardInterrupt:
        answer = shortcut.INTERRUPTED
    shortcut.finish(answer)
