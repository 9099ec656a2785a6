"""The connection flags that `setup` and `config set` share: one for each row of the settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from thv_llm import settings
from thv_llm.errors import ThvLlmError
from thv_llm.settings import ROWS, Row, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; one that is not given stays None."""
    group = parser.add_argument_group("settings (saved in llm.toml)")
    for row in ROWS:
        if row.type is bool:
            group.add_argument(
                row.flag, dest=row.key, action=argparse.BooleanOptionalAction, default=None, help=row.help
            )
        else:
            group.add_argument(row.flag, dest=row.key, metavar=row.metavar, type=_parsed(row), help=row.help)


def given(args: argparse.Namespace, saved: Settings | None) -> dict[str, object]:
    """Return the settings named on the command line, by key, each checked, and what goes with them.

    Another gateway has its own place for Anthropic's API: the saved one goes with the saved gateway.
    """
    values = vars(args)
    changes: dict[str, object] = {
        row.key: settings.checked(row, values[row.key]) for row in ROWS if values.get(row.key) is not None
    }
    has_moved = saved and changes.get("gateway_url", saved.gateway_url) != saved.gateway_url
    if saved and has_moved and saved.anthropic_path_prefix is not None:
        changes.setdefault("anthropic_path_prefix", None)
    return changes


def effective(args: argparse.Namespace, path: str) -> tuple[dict[str, object], Settings]:
    """Return the flags that were given, and the saved settings with them laid over."""
    changes = given(args, readable(path))
    return changes, settings.overlaid(settings.load(path, leaving_out=changes), changes)


def readable(path: str) -> Settings | None:
    """Return the saved settings; None when they are broken, and perhaps about to be mended."""
    try:
        return settings.load(path)
    except ThvLlmError:
        return None


def warn(wanted: Settings, say: Callable[[str], None]) -> None:
    """Shout about a setting that gives the token away."""
    if wanted.tls_skip_verify:
        say("WARNING: the gateway's certificate is NOT checked (tls_skip_verify).")
        say("  why:  whoever is on the way to it can read your access token and all that is said")
        say("  next: thv-llm config set --no-tls-skip-verify --ca-file FILE")


def _parsed(row: Row) -> type | _Words:
    if row.type is tuple:
        return _Words()
    return int if row.type is int else str


class _Words:
    """Split a list at commas and white space. A class, so that argparse can name it."""

    __name__ = "list"

    def __call__(self, text: str) -> tuple[str, ...]:
        return tuple(text.replace(",", " ").split())
