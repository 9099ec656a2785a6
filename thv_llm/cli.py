"""What can be typed, and how a run ends.

`VERBS` names every command: a module of `thv_llm.commands` or, where several share one, a name in
it (see `parser.Command`). Only the module of the verb that was typed is imported. `main` is the one
error boundary: it alone prints errors and turns exceptions into exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import argparse

    from thv_llm.commands.parser import Command
    from thv_llm.context import Context

VERBS = {
    "setup": "setup",
    "teardown": "teardown:TEARDOWN",
    "uninstall": "teardown:UNINSTALL",
    "status": "status",
    "doctor": "doctor",
    "login": "session:LOGIN",
    "logout": "session:LOGOUT",
    "tools": "tools:TOOLS",
    "models": "tools:MODELS",
    "run": "env:RUN",
    "env": "env:ENV",
    "config": "config",
    "proxy": "proxy",
    "completion": "completion",
    "help": "help:HELP",
    "version": "help:VERSION",
    "token": "token",
}
"""In the order of the help: where each command is in `thv_llm.commands`."""

ACTING = ("setup", "teardown", "uninstall", "login", "logout")
"""What changes something; with `--format json` it says so in lines, the last of which is the result."""

WRITING = (
    *(*ACTING, "run", "env", "doctor --fix"),
    *("config set", "config reset", "proxy start", "proxy stop", "proxy restart"),
    *("proxy install", "proxy uninstall"),
)
"""What root must not do in the home directory of another user. A token is looked after where it is made."""

ALIASES = {"-h": "help", "--help": "help", "-V": "version", "--version": "version"}

TAGLINE = "One login lets every AI tool on this machine use your company's LLM gateway."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["token"]:  # what tools run all day needs no parser
        from thv_llm.service import cold_token

        return cold_token.main()
    from thv_llm import context

    return bounded(arranged(arguments), context.real())


def arranged(arguments: list[str]) -> list[str]:
    """Return the arguments with a `--debug` in front of the verb put behind it."""
    is_early = arguments[:1] == ["--debug"]
    return [*(arguments[1:2] or ["help"]), "--debug", *arguments[2:]] if is_early else arguments


def bounded(arguments: list[str], context: Context) -> int:
    """Run, and end every way a run can end with a sentence and an exit code."""
    from thv_llm.context import naming_stdout
    from thv_llm.errors import ExitCode, ThvLlmError

    if is_for_program := arguments[:1] != [] and arguments[0] in ACTING and _wants_json(arguments):
        context = context.for_program()
    error: BaseException | None = None
    try:
        code = _dispatch(arguments, context)
        with naming_stdout():
            context.stdout.flush()
    except ThvLlmError as found:
        error, code = found, found.exit_code
        _complain(context, str(found))
        _trace(found)
    except KeyboardInterrupt as found:
        error, code = found, ExitCode.INTERRUPTED
        context.end_line()
        _complain(context, "interrupted")
    except OSError as found:
        _trace(found)
        error, code = found, _os_error(context, found)
    except Exception as found:
        error, code = found, ExitCode.BUG
        _complain(context, _bug(found))
        _trace(found)
    context.settle()
    if is_for_program:
        _result(arguments[0], context, int(code), error)
    return code


def _wants_json(arguments: list[str]) -> bool:
    """Tell whether the result is for a program, also when the command line is wrong elsewhere."""
    return "--format json" in " ".join(arguments).replace("--format=", "--format ")


def _result(verb: str, context: Context, code: int, error: BaseException | None) -> None:
    """Print the last line of a command that acts; a reader that disconnected needs none."""
    import contextlib

    described = None
    if error is not None:  # one that is not ours says nothing: its text can hold a secret
        described = {
            "what": getattr(error, "what", type(error).__name__),
            "why": getattr(error, "why", "") or None,
            "next": getattr(error, "next_step", "") or None,
        }
    with contextlib.suppress(OSError, ValueError):
        context.event("result", command=verb, ok=code == 0, exit_code=code, error=described, **context.facts)


def _dispatch(arguments: list[str], context: Context) -> int:
    arguments = arguments or ["help"]
    if arguments[0] in ALIASES:
        arguments = [ALIASES[arguments[0]], *arguments[1:]]
    from thv_llm import log

    log.install_hooks()
    verb = _known(arguments[0])
    args = build_parser(verb).parse_args(arguments)
    if args.debug:
        log.to(context.stderr, debug=True)
    typed = [args.verb, getattr(args, "action", ""), "--fix" if getattr(args, "fix", False) else ""]
    if " ".join(filter(None, typed)) in WRITING and not getattr(args, "dry_run", False):
        from thv_llm import paths

        paths.require_own_home(context.paths)
    return int(_command(verb).run(args, context))


def build_parser(*verbs: str) -> argparse.ArgumentParser:
    """Return the parser for these verbs, or for all of them when none is named."""
    from thv_llm.commands.parser import Parser

    parser = Parser(prog="thv-llm", description=TAGLINE)
    below = parser.add_subparsers(metavar="COMMAND", dest="verb", required=True)
    for verb in verbs or VERBS:
        command = _command(verb)
        child = below.add_parser(verb, description=command.SUMMARY)
        command.add_arguments(child)
        child.set_defaults(whole_parser=build_parser, overview=overview)
    return parser


def overview() -> str:
    """Return what `thv-llm --help` prints."""
    from thv_llm.commands import help, parser

    lines = [f"  {verb:<12}{_command(verb).SUMMARY}" for verb in VERBS]
    examples = [f"  {line}" for line in parser.examples("thv-llm")]
    return "\n".join(
        [
            TAGLINE,
            "",
            *examples,
            "",
            "commands:",
            *lines,
            "",
            "topics of the manual (thv-llm help TOPIC):",
            *(f"  {topic:<17}{title}" for topic, title in help.topics().items()),
            "",
            "thv-llm COMMAND --help shows examples and options of one command.",
            "--debug, with any of them, says where in the program an error came from.",
        ]
    )


def _command(verb: str) -> Command:
    module, _, name = VERBS[verb].partition(":")
    found = import_module(f"thv_llm.commands.{module}")
    return cast("Command", getattr(found, name) if name else found)


def _known(word: str) -> str:
    if word in VERBS:
        return word
    from thv_llm.errors import UsageError, did_you_mean, shown

    why = did_you_mean(word, [*ALIASES, "--debug"] if word.startswith("-") else VERBS)
    raise UsageError(f"there is no command {shown(word)}", why=why, next_step="thv-llm --help")


def _os_error(context: Context, error: OSError) -> int:
    """Explain a failed system call; a reader that disconnected (a closed pipe) needs no words."""
    from thv_llm.context import STDOUT, discard
    from thv_llm.errors import ExitCode, shown

    discard(context.stdout)
    if not isinstance(error, BrokenPipeError):
        what = f"cannot use {shown(error.filename)}" if error.filename else "the system returned an error"
        what = f"cannot write to {STDOUT}" if error.filename is STDOUT else what
        _complain(context, f"{what}\n  why:  {error.strerror or type(error).__name__}")
    return ExitCode.FAILED


def _bug(error: Exception) -> str:
    """Return the report of a bug: type and place, never the text, which can hold a secret."""
    from thv_llm import log

    return f"this is a bug in thv-llm\n  why:  {log.place(error)}\n  next: please report these lines"


def _trace(error: Exception) -> None:
    """With `--debug`, say where in the program it began."""
    from thv_llm import log

    log.debug(f"  came from: {log.trail(error)}")


def _complain(context: Context, text: str) -> None:
    context.say(f"thv-llm: error: {text}")
