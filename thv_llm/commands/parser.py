"""The command-line parser: examples first, no abbreviations; and a flag for each row of the settings."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn

from thv_llm import paths, settings, system
from thv_llm.context import Context
from thv_llm.errors import ExitCode, ThvLlmError, UsageError, did_you_mean, shown
from thv_llm.settings import BY_KEY, ROWS, Settings
from thv_llm.system import terminal

FORMATTER = partial(argparse.HelpFormatter, max_help_position=30, width=80)
"""80 columns, so that help in the README and on the screen agree; narrower terminals break its lines."""
GATEWAY = "--gateway-url"
FLOWS = {"--skip-browser", "--device-code"}
"""Options of which one excludes the other."""
ADVISED = re.compile(r"thv-llm (?:setup|login)\b(?! --help| --force)( https://\S+| URL\b)?")
"""A command in the next step of an error, and the gateway in it."""


@dataclass(frozen=True)
class Command:
    """What can be typed behind `thv-llm`: a module of one command has these names in it itself."""

    SUMMARY: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Context], ExitCode]


def examples(prog: str) -> list[str]:
    """Return the examples of a command, as lines that can be typed in the usual shell of this system."""
    _, _, text = paths.text("commands/texts/examples.txt").partition(f"[{prog}]\n")
    text = text.partition("\n[")[0].strip()
    if system.NAME == "win32":
        text = text.replace(" \\\n", " `\n").replace(" && ", system.one_after_the_other("", ""))
    return text.splitlines()


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose help leads with examples and whose errors are `UsageError`s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # a new option must not change what an old line means
        kwargs.setdefault("formatter_class", FORMATTER)
        super().__init__(*args, **kwargs)
        self.add_argument(
            "--debug", action="store_true", default=False, help="say where in the program an error came from"
        )

    def format_help(self) -> str:
        """Return description, examples, then usage and options."""
        shown_first = "".join(f"  {line}\n" for line in examples(self.prog))
        formatter = self._get_formatter()
        formatter.add_usage(self._short_usage(), (), ())
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        about = f"{self.prog}: {self.description}\n\n" if self.description else ""
        return f"{about}{shown_first}{chr(10) if shown_first else ''}{formatter.format_help()}"

    def _short_usage(self) -> str:
        """Name what has no name; the options are listed below it anyway."""
        words = [self.prog, "[OPTION]..."]
        for action in self._actions:
            if not action.option_strings:
                word = str(action.metavar or action.dest)
                words.append(
                    {"?": f"[{word}]", "*": f"[{word}]...", "A...": f"{word} ...", "...": f"{word}..."}.get(
                        str(action.nargs), word
                    )
                )
        return " ".join(words)

    def print_help(self, file: Any = None) -> None:
        """Print the help in lines that fit the terminal."""
        out = file or sys.stdout
        out.write(terminal.fitted(self.format_help(), terminal.columns(out, os.environ)))

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing; `cli.main` prints."""
        raise UsageError(message, next_step=f"{self.prog} --help")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and name the nearest option of the very command where one is unknown.

        Returns:
            The arguments, and as `line` the words behind the command.
        """
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._chosen(found)._reject(unknown[0])
        found.line = list(args or ())[1:]
        return found

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; a switch can also be given as `--name=true` or `--name=false`."""
        words = list(args or ())
        own = next((at for at, word in enumerate(words) if self._begins_foreign(word)), len(words))
        switched = [word for given in words[:own] for word in self._as_switch(given)]
        return super().parse_known_args(switched + words[own:], namespace)

    def _begins_foreign(self, word: str) -> bool:
        """Tell whether the words from here on are another program's, or a command's below this one."""
        is_open = any(action.nargs in (argparse.REMAINDER, argparse.PARSER) for action in self._actions)
        return word == "--" or (is_open and not word.startswith("-"))

    def _as_switch(self, word: str) -> list[str]:
        """Return the words that stand for a switch with a value; `--name=false` can be no word at all."""
        flag, is_given, value = word.partition("=")
        action = self._option_string_actions.get(flag)
        if not is_given or action is None or action.nargs != 0:
            return [word]
        if value not in ("true", "false"):
            why = "it is one of: true, false"
            raise UsageError(f"{flag} cannot be {shown(value)}", why=why, next_step=f"{self.prog} --help")
        opposite = flag.removeprefix("--no-") if flag.startswith("--no-") else f"no-{flag[2:]}"
        has_opposite = f"--{opposite}" in self._option_string_actions
        return [flag] if value == "true" else [f"--{opposite}"] if has_opposite else []

    def _chosen(self, found: argparse.Namespace) -> Parser:
        """Return the parser of the command that was typed."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and getattr(found, action.dest, None):
                child: Parser = action.choices[getattr(found, action.dest)]
                return child._chosen(found)
        return self

    def _reject(self, word: str) -> NoReturn:
        options = [option for option in self._option_string_actions if option.startswith("--")]
        name = word.partition("=")[0]
        if word.startswith("-"):
            why = did_you_mean(name, options)
        else:  # a setting by its key, as in llm.toml
            flag = BY_KEY[name].flag if name in BY_KEY else f"--{name.replace('_', '-')}"
            why = f"Did you mean `{flag}`?" if flag in options else ""
        raise UsageError(f"{self.prog} does not take {shown(word)}", why=why, next_step=f"{self.prog} --help")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert a value; one that cannot be is refused like one that is none of the choices."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            self._refuse(action, arg_string, error.message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the values that are taken; argparse's own words differ from version to version."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            self._refuse(
                action, value, did_you_mean(str(value), known) or f"it is one of: {', '.join(known)}"
            )

    def _refuse(self, action: argparse.Action, value: object, why: str) -> NoReturn:
        name = " / ".join(action.option_strings) or action.metavar or action.dest
        what = f"{name} cannot be {shown(value)}"
        if isinstance(action, argparse._SubParsersAction):
            what = f"there is no command {shown(f'{self.prog} {value}')}"
        raise UsageError(what, why=why, next_step=f"{self.prog} --help")


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add `--format text|json`."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="text or json")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; one that is not given stays None."""
    group = parser.add_argument_group("settings (saved in llm.toml)")
    for row in ROWS:
        if row.type is bool:
            group.add_argument(
                row.flag, dest=row.key, action=argparse.BooleanOptionalAction, default=None, help=row.help
            )
        else:
            items = words if row.splits else one_item
            kind, action = {int: (number, "store"), tuple: (items, "extend")}.get(row.type, (str, "store"))
            group.add_argument(
                row.flag, dest=row.key, metavar=row.metavar, type=kind, action=action, help=row.help
            )


def typed(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings named on the command line, by key, not checked yet."""
    return {row.key: value for row in ROWS if (value := getattr(args, row.key, None)) is not None}


def given(
    values: Mapping[str, object], saved: Settings | None, names: Mapping[str, str] = MappingProxyType({})
) -> dict[str, object]:
    """Return these values, each checked, and what goes with them.

    Another gateway has its own paths and headers: the saved ones go with the saved gateway.

    Args:
        names: where values are from that are no flags.

    Raises:
        UsageError: names everything that cannot be used.
    """
    changes: dict[str, object] = {}
    wrong: list[UsageError] = []
    for row in ROWS:
        if row.key in values:
            try:
                changes[row.key] = settings.checked(row, values[row.key], names.get(row.key, ""))
            except UsageError as error:
                wrong.append(error)
    if len(wrong) > 1:
        what = "; ".join(f"{error.what}, {error.why}" for error in wrong)
        raise UsageError(what, next_step="give other values; nothing was changed")
    if wrong:
        raise wrong[0]
    if saved and changes.get("gateway_url", saved.gateway_url) != saved.gateway_url:
        for row in ROWS:
            if row.key in settings.OF_GATEWAY and saved.get(row) != row.default:
                changes.setdefault(row.key, None)
    return changes


def retyped(next_step: str, args: argparse.Namespace) -> str:
    """Return the next step of a `setup` that failed, with the words that it was given.

    It has saved none of them: what is advised would not work without, and a `login` has only what is saved.
    What is advised itself replaces what was typed.

    Args:
        args: of `setup`.
    """
    words, url = [word for word in args.line if word != "--"], args.url
    if not words or next_step == settings.SET_UP:  # which is the whole line
        return next_step
    if url:
        del words[next(at for at, word in enumerate(words) if word == url and words[at - 1] != GATEWAY)]
    advised = set(re.findall(r"--[a-z][a-z0-9-]*", next_step))
    if advised & FLOWS:
        advised |= FLOWS

    def completed(found: re.Match[str]) -> str:
        gateway = found[1] or (f" {url}" if url and GATEWAY not in advised else "")
        left = _without(words, {*advised, GATEWAY} if gateway else advised)
        return f"thv-llm setup{gateway} {system.command_line(left)}".rstrip()

    return ADVISED.sub(completed, next_step)


def _without(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return the words of a command line without these flags, their values, and URLs with secrets in them."""
    left: list[str] = []
    is_kept = True
    for word in words:
        is_kept = word.partition("=")[0] not in flags if word.startswith("--") else is_kept
        if is_kept:
            left.append(re.sub(r"[A-Za-z0-9+.-]+://\S*[@?]\S*", "URL", word))
    return left


def readable(path: str) -> Settings | None:
    """Return the saved settings; None when they are broken, and perhaps about to be fixed."""
    try:
        return settings.load(path)
    except ThvLlmError:
        return None


def warn(wanted: Settings, say: Callable[[str], None]) -> None:
    """Shout about a setting that gives the token away."""
    if wanted.tls_skip_verify:
        say("WARNING: the gateway's certificate is NOT checked (tls_skip_verify).")
        say("  why:  any machine on the way to it can read your access token and every request")
        say("  next: thv-llm config set --no-tls-skip-verify --ca-file FILE")


def number(text: str) -> int | str:
    """Return the number; a text that is none is refused with the others' faults, by its setting."""
    return int(text) if text.isascii() and text.isdigit() else text


def words(text: str) -> list[str]:
    """Split a list at commas and white space; given twice, the lists add up."""
    return text.replace(",", " ").split()


def one_item(text: str) -> list[str]:
    """Take the text of a list's flag as one item."""
    return [text] if text else []
