"""`thv-llm completion SHELL`: tab completion, made from the parser itself.

The scripts come from a tree of what can be typed, put into the templates `texts/completion.*`. All of
them work alike: from the words typed so far they find the command at hand (`proxy start`, say), then
offer what follows the last word: an option's values, or else subcommands, values of a positional
argument, and options.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from thv_llm import paths
from thv_llm.commands import env, help, wiring
from thv_llm.commands.env import in_fish
from thv_llm.context import Context
from thv_llm.errors import ExitCode
from thv_llm.settings import ROWS
from thv_llm.system.terminal import ASCII
from thv_llm.tools.registry import TOOLS
from thv_llm.validation import OneOf

SUMMARY = "tab completion for bash, zsh, fish and PowerShell"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help="bash, zsh, fish or powershell")


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print the script."""
    whole = args.whole_parser()
    words: dict[str, Sequence[str]] = {
        "TOOL": [tool.id for tool in TOOLS if wiring.can_wire(tool)],
        "NAME": [tool.id for tool in TOOLS],
        "KEY": [row.key for row in ROWS],
        "COMMAND|TOPIC": [*help.children(whole), *help.topics()],
        "--tool": list(env.by_name()),
    }
    words |= {row.flag: row.check.choices for row in ROWS if isinstance(row.check, OneOf)}
    root = describe(whole, words)
    context.result(SHELLS[args.shell](root).rstrip("\n"))
    return ExitCode.DONE


PROGRAMS = ("thv-llm", "thv-llm.pyz", "thv-llm.cmd")


@dataclass(frozen=True)
class Option:
    """One option, or one positional argument (then without flags).

    Attributes:
        values: what can follow it, if that is known.
        takes_value: a word follows it.
        takes_file: that word is a file name.
    """

    flags: tuple[str, ...]
    help: str
    values: tuple[str, ...] = ()
    takes_value: bool = False
    takes_file: bool = False

    def about(self, flag: str) -> str:
        """Return what this flag does: of a switch, `--no-…` does the opposite."""
        is_opposite = flag.startswith("--no-") and f"--{flag[5:]}" in self.flags
        return f"turn off: {self.help}" if is_opposite else self.help


@dataclass(frozen=True)
class CommandNode:
    """One command.

    Attributes:
        path: the words that lead to it, `()` for the program itself.
    """

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...] = ()
    positionals: tuple[Option, ...] = ()
    children: tuple[CommandNode, ...] = ()

    def all(self) -> Iterator[CommandNode]:
        """Yield this command and all below it."""
        yield self
        for child in self.children:
            yield from child.all()

    @property
    def name(self) -> str:
        """The path as it is typed."""
        return " ".join(self.path)


def describe(
    parser: argparse.ArgumentParser,
    words: Mapping[str, Sequence[str]],
    *,
    path: tuple[str, ...] = (),
) -> CommandNode:
    """Return the tree of a parser.

    Args:
        words: what can stand for an argument of that metavar (`TOOL`), or after that option (`--tool`).
    """
    options: list[Option] = []
    positionals: list[Option] = []
    children: list[CommandNode] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                children.append(describe(child, words, path=(*path, name)))
        elif action.help != argparse.SUPPRESS:
            (options if action.option_strings else positionals).append(_option(action, words))
    about = (parser.description or "").strip()
    return CommandNode(path, about, tuple(options), tuple(positionals), tuple(children))


def _option(action: argparse.Action, words: Mapping[str, Sequence[str]]) -> Option:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.option_strings and metavar == "NAME":
        metavar = ""  # any name; as an argument it is a tool's
    choices = [str(choice) for choice in action.choices or ()]
    known = next((words[name] for name in (*action.option_strings, metavar) if name in words), ())
    return Option(
        flags=tuple(action.option_strings),
        help=(action.help or "").replace("%%", "%"),
        values=tuple(choices or known),
        takes_value=action.nargs != 0,
        takes_file=metavar == "FILE",
    )


def _words_at(node: CommandNode) -> list[tuple[str, str]]:
    """Return what is not an option: subcommands and values of positional arguments, with help."""
    named = [(child.path[-1], child.help) for child in node.children]
    return named + [(value, "") for positional in node.positionals for value in positional.values]


def _flags_at(node: CommandNode) -> list[tuple[str, str]]:
    return [(flag, option.about(flag)) for option in node.options for flag in option.flags if flag != "-h"]


def _with_value(root: CommandNode) -> Iterator[tuple[list[str], Option]]:
    """Yield options that want a word after them, as "PATH FLAG"; those that want the same together."""
    found: dict[tuple[bool, tuple[str, ...]], tuple[list[str], Option]] = {}
    for node in root.all():
        for option in node.options:
            places = [f"{node.name} {flag}".strip() for flag in option.flags if option.takes_value]
            if places:
                found.setdefault((option.takes_file, option.values), ([], option))[0].extend(places)
    yield from found.values()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _pattern(paths: Sequence[str]) -> str:
    return " | ".join(_quoted(path) for path in paths)


def _script(shell: str, **parts: str) -> str:
    """Return a template with each part in place of its `@NAME@`."""
    script = paths.text(f"commands/texts/completion.{shell}")
    for name, part in parts.items():
        script = script.replace(f"@{name.upper()}@", part)
    return script


def _cases(
    root: CommandNode, offer: Callable[[Option], str], assign: Callable[[CommandNode], str]
) -> dict[str, str]:
    """Return the parts of a script with `case … esac`.

    Args:
        offer: what offers an option's values, and returns.
        assign: what sets the words and flags of a command.
    """
    values = [f"        {_pattern(places)}) {offer(option)} ;;" for places, option in _with_value(root)]
    words = [f"        {_quoted(node.name)}) {assign(node)} ;;" for node in root.all()]
    return {
        "values": "\n".join(values),
        "words": "\n".join(words),
        "paths": _pattern([node.name for node in root.all() if node.path]),
        "programs": " ".join(PROGRAMS),
    }


def bash(root: CommandNode) -> str:
    """Return the script for bash 3.2 (macOS) and later."""

    def offer(option: Option) -> str:
        if option.values:
            return f'COMPREPLY=($(compgen -W {_quoted(" ".join(option.values))} -- "$cur")); return'
        if option.takes_file:
            return 'COMPREPLY=($(compgen -f -- "$cur")); compopt -o filenames 2>/dev/null; return'
        return "return"  # anything can stand there

    def assign(node: CommandNode) -> str:
        words, flags = (" ".join(name for name, _ in found) for found in (_words_at(node), _flags_at(node)))
        return f"words={_quoted(words)} flags={_quoted(flags)}"

    return _script("bash", **_cases(root, offer, assign))


def zsh(root: CommandNode) -> str:
    """Return the script for zsh, to be put on `fpath` or sourced after `compinit`."""

    def described(pairs: Sequence[tuple[str, str]]) -> str:
        """Return words for `_describe`: "word:help", quoted."""
        escaped = [(word.replace(":", "\\:"), about) for word, about in pairs]
        return " ".join(_quoted(f"{word}:{about}" if about else word) for word, about in escaped)

    def offer(option: Option) -> str:
        if option.values:
            pairs = [(value, "") for value in option.values]
            return f"items=({described(pairs)}); _describe value items; return"
        return "_files; return" if option.takes_file else "return"

    def assign(node: CommandNode) -> str:
        return f"items=({described(_words_at(node))}) flags=({described(_flags_at(node))})"

    return _script("zsh", **_cases(root, offer, assign))


def fish(root: CommandNode) -> str:
    """Return the script for fish."""
    lines = ["-f", *(line for node in root.all() for line in _fish_lines(node))]
    completions = [f"complete -c {PROGRAMS[0]} {line}" for line in lines]
    completions += [f"complete -c {program} -w {PROGRAMS[0]}" for program in PROGRAMS[1:]]
    known = " ".join(in_fish(node.name) for node in root.all() if node.path)
    return _script("fish", paths=known, words="\n".join(completions))


def _fish_lines(node: CommandNode) -> Iterator[str]:
    here = f"-n {in_fish('__thv_llm_at ' + in_fish(node.name))}"
    for word, about in _words_at(node):
        yield f"{here} -a {in_fish(word)}" + (f" -d {in_fish(about)}" if about else "")
    for option in node.options:
        value = ""
        if option.takes_value:
            value = "-r -F " if option.takes_file else f"-x -a {in_fish(' '.join(option.values))} "
        for flag in option.flags:
            name = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            yield f"{here} {name} {value}-d {in_fish(option.about(flag))}"


def powershell(root: CommandNode) -> str:
    """Return the script for PowerShell; where it offers nothing, PowerShell offers files.

    In ASCII: what programs print, and profiles, it reads in the encoding of the machine.
    """
    words = [
        f"        {_single_quoted(node.name)} = @(@({_pairs(_words_at(node))}), @({_pairs(_flags_at(node))}))"
        for node in root.all()
    ]
    values = [
        f"        {_single_quoted(place)} = @({_pairs([(value, '') for value in option.values])})"
        for places, option in _with_value(root)
        for place in places
    ]
    programs = ", ".join(map(_single_quoted, PROGRAMS))
    script = _script("powershell", words="\n".join(words), values="\n".join(values), programs=programs)
    return "".join(ASCII.get(character, character) for character in script)


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """Return words with their help after a tab; PowerShell wants some help for each."""
    return ", ".join(
        f'"{_in_double_quotes(word)}`t{_in_double_quotes(about or word)}"' for word, about in pairs
    )


def _in_double_quotes(text: str) -> str:
    return text.replace("`", "``").replace('"', '`"').replace("$", "`$")


def _single_quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish, "powershell": powershell}
