"""The command-line parser: examples first, no abbreviations, errors as everywhere else."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from thv_llm.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose help leads with examples and whose errors are `UsageError`s.

    Args:
        examples: command lines with a word on each, one a line, printed above the options.
    """

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # a new option must not change what an old line means
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.add_argument(
            "--debug", action="store_true", default=False, help="say where in the program an error came from"
        )

    def format_help(self) -> str:
        """Return description, examples, then usage and options."""
        examples = "".join(f"  {line}\n" for line in self.examples.strip().splitlines())
        formatter = self._get_formatter()
        formatter.add_usage(self._short_usage(), (), ())
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        about = f"{self.prog}: {self.description}\n\n" if self.description else ""
        return f"{about}{examples}{chr(10) if examples else ''}{formatter.format_help()}"

    def _short_usage(self) -> str:
        """Name what has no name; the options are listed below it anyway."""
        words = [self.prog, "[OPTION]..."]
        for action in self._actions:
            if not action.option_strings:
                word = str(action.metavar or action.dest)
                words.append(
                    {"?": f"[{word}]", "*": f"[{word}]...", "A...": f"{word} ..."}.get(
                        str(action.nargs), word
                    )
                )
        return " ".join(words)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing; `cli.main` prints."""
        raise UsageError(message, next_step=f"{self.prog} --help")


class _Formatter(argparse.HelpFormatter):
    """80 columns whatever the terminal, so that help in the README and on the screen agree."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=80)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add `--format text|json`."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="text or json")
