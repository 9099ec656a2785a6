"""`thv-llm token`: print one fresh access token, for programs.

stdout gets the token and a line end, or nothing at all. `fast` answers the usual call before
argparse and most of the package are imported, which would take four times as long.
"""

from __future__ import annotations

import os
import sys

from thv_llm import obtain, paths
from thv_llm.service.client import BREAK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from thv_llm.errors import ExitCode
    from thv_llm.tokens import AccessToken
    from thv_llm.world import World

SUMMARY = "print one fresh access token"
EXAMPLES = """
thv-llm token                           the token and a line end; what the helper prints
thv-llm token --format json             with its type and its end, in seconds since 1970
thv-llm token --min-valid 60            one that is good for a minute is good enough
curl -H "Authorization: Bearer $(thv-llm token)" https://llm.example.com/v1/models
"""

MIN_VALID_S = 600
"""Twice the 300 s after which tools call the helper again."""

SCROLLBACK = "thv-llm: warning: the token is in your terminal's history now; pipe it to where it is needed"


def fast(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int | None:
    """Run `thv-llm token` without options and return its exit code; None for any other command line."""
    if list(argv) != ["token"]:
        return None
    try:
        answer = obtain.answer(paths.find(environ), environ, obtain.request(MIN_VALID_S))
    except KeyboardInterrupt:
        _tell("thv-llm: error: interrupted")
        return 130
    word, _, rest = answer.partition(" ")
    if word == "ok":
        return _print(rest.partition(" ")[2])
    code, _, text = rest.partition(" ")
    _tell(f"thv-llm: error: {text.replace(BREAK, chr(10))}")
    return int(code)


def _print(token: str) -> int:
    """Write to descriptor 1 itself: what cannot be written must not be tried again at exit."""
    if sys.stdout is None:
        _tell("thv-llm: error: cannot print the token\n  why:  stdout is closed")
        return 1
    data = token.encode("ascii") + b"\n"
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as error:
        why = (error.strerror or "stdout is broken").lower()
        _tell(f"thv-llm: error: cannot print the token\n  why:  {why}")
        return 1
    if os.isatty(1):
        _tell(SCROLLBACK)
    return 0


def _tell(text: str) -> None:
    try:
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
    except OSError:  # nobody can be told; the exit code tells
        pass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which token is wanted, and how."""
    import argparse

    parser.add_argument(
        "--min-valid",
        type=_seconds,
        default=MIN_VALID_S,
        metavar="SECONDS",
        help="how long the token must be good for at least (or half of its life, if that is less)",
    )
    parser.add_argument("--force-refresh", action="store_true", help="ask the provider for a new one")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument("--login", action="store_true", help="sign in first if nobody is signed in")
    parser.add_argument(obtain.WORKER_FLAG, help=argparse.SUPPRESS)


def _seconds(text: str) -> int:
    import argparse

    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise argparse.ArgumentTypeError("wants a number of seconds, 0 or more")
    return int(text)


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Print the token."""
    from thv_llm.errors import ExitCode, ThvLlmError

    if args.answer_request:
        _be_the_worker(args.answer_request, world)
        return ExitCode.DONE
    if not world.stdout:
        raise ThvLlmError("cannot print the token", why="stdout is closed")
    token = _obtain(args, world)
    world.answer(_as_json(token) if args.format == "json" else token.value.reveal())
    if world.stdout.isatty():
        world.say(SCROLLBACK)
    return ExitCode.DONE


def _obtain(args: argparse.Namespace, world: World) -> AccessToken:
    from thv_llm.errors import LoginRequiredError

    try:
        return obtain.token(world.paths, world.environ, args.min_valid, force=args.force_refresh)
    except LoginRequiredError:
        if not args.login:
            raise
    from thv_llm import settings
    from thv_llm.commands import signing_in

    signing_in.sign_in(world, settings.load(world.paths.settings))
    return obtain.token(world.paths, world.environ, args.min_valid)


def _as_json(token: AccessToken) -> str:
    import json

    facts = {
        "access_token": token.value.reveal(),
        "token_type": "Bearer",
        "expires_at": int(token.expires_at),
    }
    return json.dumps(facts)


def _be_the_worker(words: str, world: World) -> None:
    from thv_llm.service import detached

    detached.settle_in()
    is_claimed, _, request = words.partition(" ")
    obtain.work(world.paths, world.environ, request, is_claimed=is_claimed == "claimed")
