"""`thv-llm token`: print one fresh access token, for programs.

stdout gets the token and a line end, or nothing at all. `agent_client` serves the usual
call, without options, before any of this is imported.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm import settings
from thv_llm.agent_client import MIN_VALID_S, SCROLLBACK
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode, LoginRequiredError
from thv_llm.service import cold_token
from thv_llm.system import detach, terminal

if TYPE_CHECKING:
    from thv_llm.context import Context
    from thv_llm.tokens import AccessToken

SUMMARY = "print one fresh access token"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which token is wanted, and how."""
    parser.add_argument(
        "--min-valid",
        type=_seconds,
        default=MIN_VALID_S,
        metavar="SECONDS",
        help="how long the token must still be valid (or half of its life, if that is less)",
    )
    parser.add_argument(
        "--force-refresh", action="store_true", help="a new one; several commands at once share it"
    )
    add_format(parser)
    parser.add_argument("--login", action="store_true", help="log in first if not logged in")
    parser.add_argument(detach.WORKER_FLAG, help=argparse.SUPPRESS)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise argparse.ArgumentTypeError("it must be a number of seconds, 0 or more")
    return int(text)


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print the token."""
    if args.as_worker:
        _be_the_worker(args.as_worker, context)
        return ExitCode.DONE
    token = _obtain(args, context)
    context.result(_as_json(token) if args.format == "json" else token.value.reveal())
    if terminal.is_one(context.stdout):
        context.say(SCROLLBACK)
    return ExitCode.DONE


def _obtain(args: argparse.Namespace, context: Context) -> AccessToken:
    try:
        newer_than = context.began if args.force_refresh else None
        return cold_token.token(context.paths, context.environ, args.min_valid, newer_than=newer_than)
    except LoginRequiredError:
        if not args.login:
            raise
    from thv_llm.commands import session, wiring

    saved = settings.load(context.paths.settings)
    begun = session.begin(context, saved)
    wiring.catch_up(context, saved, begun.token.value)
    session.hand_over(context, begun)
    return begun.token


def _as_json(token: AccessToken) -> str:
    import json

    facts = {
        "access_token": token.value.reveal(),
        "token_type": "Bearer",
        "expires_at": int(token.expires_at),
    }
    return json.dumps(facts)


def _be_the_worker(words: str, context: Context) -> None:
    detach.settle_in()
    kind, _, request = words.partition(" ")
    if kind == cold_token.SESSION_WORKER:
        cold_token.work_on_session(context.paths, context.environ)
    else:
        cold_token.work(context.paths, context.environ, request, is_claimed=kind == "claimed")
