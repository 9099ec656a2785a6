"""`thv-llm token` without options, when no agent answers: no parser, no world, nothing to wait for."""

from __future__ import annotations

import os
from typing import NoReturn

from thv_llm import obtain, paths, shortcut
from thv_llm.service import answers


def main() -> NoReturn:
    """Print a token, or why there is none, and end."""
    try:
        answer = obtain.answer(paths.find(os.environ), os.environ, shortcut.REQUEST)
    except KeyboardInterrupt:
        answer = shortcut.INTERRUPTED
    except Exception as error:  # told as a worker tells it, without a traceback
        answer = answers.failure_line(error)
    shortcut.finish(answer)
