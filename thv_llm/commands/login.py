"""`thv-llm login`: log in, and keep the session."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from thv_llm.context import Context

SUMMARY = "log in at the provider"
EXAMPLES = """
thv-llm login                            in the browser
thv-llm login --skip-browser             print the URL; takes a pasted address
thv-llm login --device-code              by a code to type on another device
thv-llm login --prompt select_account    as another user
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how to log in."""
    from thv_llm.commands import session

    session.add_flow(parser)
    add_format(parser)
    parser.add_argument("--force", action="store_true", help="log in even if the session works")
    parser.add_argument("--prompt", metavar="VALUE", help="OIDC `prompt` for this login, e.g. select_account")


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Log in unless the session is good already."""
    from thv_llm import settings, state
    from thv_llm.commands import session, wiring

    saved = settings.load(context.paths.settings)
    saved.require_configured()
    begun = session.begin(
        context,
        saved,
        flow=session.flow(args),
        force=args.force or bool(args.prompt),
        prompt=args.prompt,
    )
    session.hand_over(context, begun)
    if state.load(context.paths.state).wired and saved.anthropic_path_prefix is None:
        # `setup --lazy` could not ask; the root stands in the tools' files
        found = wiring.find_prefixes(context, saved, begun.token.value)
        settings.save(context.paths, found)
        if any(found.values()):
            places = ", ".join(f"{key} = {path}" for key, path in found.items() if path)
            context.say(f"The gateway has APIs below its root ({places}). Run: thv-llm setup")
    return ExitCode.DONE
