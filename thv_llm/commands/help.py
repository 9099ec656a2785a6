"""`thv-llm help` and `thv-llm version`: what can be typed, the pages of the manual, what is installed.

The manual's pages are the files of `thv_llm/manual`; the first line of each is its title.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from thv_llm import __version__, paths
from thv_llm.commands.parser import Command
from thv_llm.context import Context
from thv_llm.errors import ExitCode, UsageError, did_you_mean, shown
from thv_llm.system import terminal

MARK = re.compile(r"<!-- /?\w+ -->")
"""Around the parts that are generated."""
ITEM = re.compile(r"\s*([-*]|\d+\.) ")


def _add_help(parser: argparse.ArgumentParser) -> None:
    """Declare the words that name a command or a topic."""
    parser.add_argument(
        "words", metavar="COMMAND|TOPIC", nargs="*", help="a command, or a page of the manual"
    )


def _run_help(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print the overview, the help of one command, or a page."""
    if not args.words:
        context.show(args.overview())
        return ExitCode.DONE
    pages = topics()
    if len(args.words) == 1 and args.words[0] in pages:
        lines = [line for line in page(args.words[0]).rstrip().splitlines() if not MARK.fullmatch(line)]
        has_width = terminal.columns(context.stdout, context.environ)
        context.show("\n".join(_reflowed(lines) if has_width else lines))
        return ExitCode.DONE
    found = args.whole_parser()
    known = [*pages, *children(found)]
    for word in args.words:
        if word not in (below := children(found)):
            why = did_you_mean(word, known)
            what = f"there is no command or topic {shown(word)}"
            raise UsageError(what, why=why, next_step="thv-llm help")
        found = below[word]
        known = list(children(found))
    context.show(found.format_help().rstrip())
    return ExitCode.DONE


HELP = Command("the commands and the manual; help COMMAND, help TOPIC", _add_help, _run_help)


def children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command below this one."""
    return {
        name: child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, child in action.choices.items()
    }


def _reflowed(lines: Sequence[str]) -> list[str]:
    """Return a page with each paragraph and item in one line, which the terminal's width will break."""
    found: list[str] = []
    is_code = is_open = False
    for line in lines:
        is_code ^= line.startswith("```")
        is_block = is_code or not line.strip() or line.startswith(("|", "#", "```", ">"))
        if is_open and not is_block and not ITEM.match(line):
            found[-1] += f" {line.strip()}"
        else:
            found.append(line)
        is_open = not is_block
    return found


def topics() -> dict[str, str]:
    """Return the title of each page of the manual by its topic."""
    from importlib import resources

    names = sorted(file.name for file in resources.files("thv_llm").joinpath("manual").iterdir())
    found = [name.removesuffix(".md") for name in names if name.endswith(".md")]
    return {topic: page(topic).partition("\n")[0].removeprefix("# ") for topic in found}


def page(topic: str) -> str:
    """Return the Markdown text of a page."""
    return paths.text(f"manual/{topic}.md")


def _add_version(parser: argparse.ArgumentParser) -> None:
    """Declare whether licenses are wanted."""
    parser.add_argument("--licenses", action="store_true", help="also the licenses of what is inside")


def _run_version(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print the version, and the licenses of the packages in the file."""
    context.result(f"thv-llm {__version__}")
    if args.licenses:
        context.result(paths.bundled("LICENSES.txt"))
    return ExitCode.DONE


VERSION = Command("the version; --licenses for what is inside the file", _add_version, _run_version)
