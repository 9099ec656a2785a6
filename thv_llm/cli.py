"""What can be typed, and how a run ends.

`VERBS` names every command; each is one module of `thv_llm.commands` with `SUMMARY`,
`EXAMPLES`, `add_arguments(parser)` and `run(args, world)`. Only the module of the verb that
was typed is imported. `main` is the one error boundary: it alone prints errors and turns
exceptions into exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import argparse

    from thv_llm.errors import ExitCode
    from thv_llm.world import World

VERBS = (
    "setup",
    "teardown",
    "status",
    "doctor",
    "login",
    "logout",
    "tools",
    "env",
    "config",
    "proxy",
    "completion",
    "token",
)
HIDDEN = ("token",)
"""Commands that tools run, not people; they work, but the list leaves them out."""

TAGLINE = "One login lets every AI tool on this machine use your company's LLM gateway."
EXAMPLES = """\
thv-llm setup --gateway-url https://llm.example.com \\
              --issuer https://id.example.com --client-id thv-llm
thv-llm status        what is wired, and is the session alive
thv-llm doctor        what is wrong, and the command that mends it
thv-llm teardown      put every file back as it was
"""


class Command(Protocol):
    """What every module of `thv_llm.commands` offers to this one."""

    SUMMARY: str
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the verb takes."""

    def run(self, args: argparse.Namespace, world: World) -> ExitCode:
        """Do it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["token"]:  # what tools run all day needs no parser
        from thv_llm.commands import plain_token

        return plain_token.main()
    from thv_llm import world

    return bounded(arranged(arguments), world.real())


def arranged(arguments: list[str]) -> list[str]:
    """Return the arguments with a `--debug` in front of the verb put behind it."""
    is_early = arguments[:1] == ["--debug"] and len(arguments) > 1
    return [arguments[1], "--debug", *arguments[2:]] if is_early else arguments


def bounded(arguments: list[str], world: World) -> int:
    """Run, and end every way a run can end with a sentence and an exit code."""
    from thv_llm.errors import ExitCode, ThvLlmError

    try:
        code = _dispatch(arguments, world)
        world.stdout.flush()
        return code
    except ThvLlmError as error:
        _complain(world, str(error))
        _trace(error)
        return error.exit_code
    except KeyboardInterrupt:
        _complain(world, "interrupted")
        return ExitCode.INTERRUPTED
    except OSError as error:
        _trace(error)
        return _os_error(world, error)
    except Exception as error:
        _complain(world, _bug(error))
        _trace(error)
        return ExitCode.BUG


def _dispatch(arguments: list[str], world: World) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        world.answer(overview())
        return 0
    if arguments[0] == "--version":
        return _version(arguments[1:], world)
    from thv_llm import log

    log.install_hooks()
    verb = _known(arguments[0])
    args = build_parser(verb).parse_args(arguments)
    if args.debug:
        log.to(world.stderr, debug=True)
    return int(_module(verb).run(args, world))


def build_parser(*verbs: str) -> argparse.ArgumentParser:
    """Return the parser for these verbs, or for all of them when none is named."""
    from thv_llm.commands.parser import Parser

    parser = Parser(prog="thv-llm", description=TAGLINE)
    below = parser.add_subparsers(metavar="COMMAND", dest="verb", required=True)
    for verb in verbs or VERBS:
        module = _module(verb)
        child = below.add_parser(verb, description=module.SUMMARY, examples=module.EXAMPLES)
        module.add_arguments(child)
        child.set_defaults(whole_parser=build_parser, hidden_verbs=HIDDEN)
    return parser


def overview() -> str:
    """Return what `thv-llm --help` prints."""
    listed = [verb for verb in VERBS if verb not in HIDDEN]
    lines = [f"  {verb:<12}{_module(verb).SUMMARY}" for verb in listed]
    examples = [f"  {line}" for line in EXAMPLES.splitlines()]
    return "\n".join(
        [
            TAGLINE,
            "",
            *examples,
            "",
            "commands:",
            *lines,
            "",
            "thv-llm COMMAND --help shows examples and options of one command.",
            "--debug, with any of them, says where in the program an error came from.",
            "--version tells the version; --version --licenses also what is inside the file.",
        ]
    )


def _module(verb: str) -> Command:
    return cast(Command, import_module(f"thv_llm.commands.{verb}"))


def _known(word: str) -> str:
    if word in VERBS:
        return word
    import difflib

    from thv_llm.errors import UsageError, shown

    near = difflib.get_close_matches(word, VERBS, 1)
    raise UsageError(
        f"there is no command {shown(word)}",
        next_step=f"thv-llm {near[0]} --help" if near else "thv-llm --help",
    )


def _version(arguments: list[str], world: World) -> int:
    from thv_llm import __version__, paths
    from thv_llm.errors import UsageError, shown

    if arguments not in ([], ["--licenses"]):
        raise UsageError(f"--version does not take {shown(arguments[0])}", next_step="thv-llm --version")
    world.answer(f"thv-llm {__version__}")
    if arguments:
        world.answer(paths.bundled("LICENSES.txt"))
    return 0


def _os_error(world: World, error: OSError) -> int:
    """Explain a failed system call; a reader that went away (a closed pipe) needs no words."""
    from thv_llm.errors import ExitCode, shown
    from thv_llm.world import discard

    discard(world.stdout)
    if not isinstance(error, BrokenPipeError):
        where = f" {shown(error.filename)}" if error.filename else ""
        _complain(world, f"the system refused{where}\n  why:  {error.strerror or type(error).__name__}")
    return ExitCode.FAILED


def _bug(error: Exception) -> str:
    """Return the report of a bug: type and place, never the text, which may hold a secret."""
    from thv_llm import log

    return f"this is a bug in thv-llm\n  why:  {log.place(error)}\n  next: please report these lines"


def _trace(error: Exception) -> None:
    """With `--debug`, say where in the program it began."""
    from thv_llm import log

    log.debug(f"  came from: {log.trail(error)}")


def _complain(world: World, text: str) -> None:
    world.say(f"thv-llm: error: {text}")
