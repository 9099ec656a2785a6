"""`thv-llm logout`: end the session here and, as far as it can be done, at the provider."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from thv_llm.context import Context

SUMMARY = "end the session; revokes it at the provider"
EXAMPLES = """
thv-llm logout        tools get a clear refusal until the next thv-llm login
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the format."""
    add_format(parser)


def run(args: argparse.Namespace, context: Context) -> ExitCode:  # noqa: ARG001 - every verb has this signature
    """Revoke, delete, and tell the service to forget."""
    from thv_llm import settings
    from thv_llm.commands import session

    session.end(context, settings.load(context.paths.settings))
    return ExitCode.DONE
