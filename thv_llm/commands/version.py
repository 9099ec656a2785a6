"""`thv-llm version`: what is installed, and the licenses of what is inside."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm import __version__, paths
from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from thv_llm.context import Context

SUMMARY = "the version; --licenses for what is inside the file"
EXAMPLES = """
thv-llm version                the same as -V and --version
thv-llm version --licenses     with the licenses of the packages in the file
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare whether licenses are wanted."""
    parser.add_argument("--licenses", action="store_true", help="also the licenses of what is inside")


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print it."""
    context.answer(f"thv-llm {__version__}")
    if args.licenses:
        context.answer(paths.bundled("LICENSES.txt"))
    return ExitCode.DONE
