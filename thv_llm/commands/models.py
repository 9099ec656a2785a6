"""`thv-llm models`: the model ids of the gateway."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from thv_llm.context import Context

SUMMARY = "model ids of the gateway"
EXAMPLES = """
thv-llm models                          one a line, in the gateway's order
thv-llm models --format json
thv-llm setup --models "$(thv-llm models | grep claude)"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the format."""
    add_format(parser)


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Ask the gateway, with an access token.

    Raises:
        LoginRequiredError: there is no session.
        NoResponseError: provider or gateway cannot be reached.
        ThvLlmError: the gateway does not list its models.
    """
    from thv_llm import gateway, settings
    from thv_llm.checks.model import MIN_VALID_S
    from thv_llm.commands import screen
    from thv_llm.service import cold_token

    found = settings.load(context.paths.settings)
    found.require_configured()
    token = cold_token.token(context.paths, context.environ, MIN_VALID_S)
    ids = gateway.models(found, context.environ, token.value)
    context.answer(screen.as_json({"models": ids}) if args.format == "json" else "\n".join(ids))
    return ExitCode.DONE
