"""The parts of README.md and the manual that the program knows: `python -m tests.readme` writes them anew.

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`, in one of the documents; a test compares it.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from tests import screens as machine_screens
from tests.e2e import scripts
from tests.e2e.prompts import PROMPTS, SILENT, SLOW
from tests.e2e.real_providers import BEHAVIOR
from tests.states import table
from thv_llm import cli
from thv_llm.commands import help
from thv_llm.providers import PROVIDERS, IdentityProvider
from thv_llm.settings import ROWS, options
from thv_llm.tools import engine
from thv_llm.tools.engine import Mode

README = Path(__file__).resolve().parent.parent / "README.md"
MANUAL = README.parent / "thv_llm" / "manual"
DOCUMENTS = (README, *sorted(MANUAL.glob("*.md")))


def tools() -> str:
    """Return the table of supported tools, and of those that cannot be wired."""
    lines = ["| tool | id | how | checked with |", "|---|---|---|---|"]
    for tool in engine.TOOLS:
        if engine.mode(tool) is not Mode.NONE:
            how = {Mode.DIRECT: "direct", Mode.PROXY: "proxy", Mode.MANUAL: "a snippet to paste"}
            lines.append(f"| {tool.title} | `{tool.id}` | {how[engine.mode(tool)]} | {tool.checked} |")
    lines += ["", "Not possible, and why:", "", "| tool | why | what you can do |", "|---|---|---|"]
    for tool in engine.TOOLS:
        if engine.mode(tool) is Mode.NONE:
            lines.append(f"| {tool.title} | {tool.reason} | {tool.remedy} |")
    return "\n".join(lines)


def said() -> str:
    """Return what each tool prints without a login, and when the service is stopped."""
    titles = {tool.id: tool.title for tool in engine.TOOLS}
    lines = [
        "| tool | logged out (`thv-llm login`) | service stopped (`thv-llm setup` starts it) |",
        "|---|---|---|",
    ]
    for one in (*PROMPTS, *SLOW):
        if one.name == one.tool:
            stopped = {
                "": "works: the helper gets the token by itself",
                SILENT: "nothing: it tries again for minutes",
            }.get(one.stopped, f"`{one.stopped}`")
            lines.append(f"| {titles[one.tool]} | `{one.logged_out}` | {stopped} |")
    return "\n".join(lines)


def clients() -> str:
    """Return which clients work by environment variables alone, and why the others do not."""
    lines = ["| client | version | works | why not |", "|---|---|---|---|"]
    for one in scripts.ALL:
        lines.append(f"| {one.name} | {one.version} | {'no' if one.why else 'yes'} | {one.why} |")
    return "\n".join(lines)


def names() -> str:
    """Return the names of the tools, by what can be done for them."""
    by_mode = {mode: [tool.title for tool in engine.TOOLS if engine.mode(tool) is mode] for mode in Mode}
    said = {
        Mode.DIRECT: "**Ask the helper for a token**",
        Mode.PROXY: "**Use the proxy**",
        Mode.MANUAL: "**A snippet to paste**",
        Mode.NONE: "**Not possible**",
    }
    lines = [f"{words}: {', '.join(by_mode[mode])}." for mode, words in said.items()]
    return "\n\n".join(map(_filled, lines))


def pages() -> str:
    """Return a link to each page of the manual."""
    rows = [f"| [{name}](thv_llm/manual/{name}.md) | {title} |" for name, title in help.topics().items()]
    return "\n".join(["| topic | |", "|---|---|", *rows])


def commands() -> str:
    """Return what `thv-llm --help` prints."""
    return f"```console\n$ thv-llm --help\n{cli.overview()}\n```"


def providers() -> str:
    """Return what to register at each identity provider, and the line for its users."""
    return "\n\n".join(map(_provider, PROVIDERS))


def _provider(one: IdentityProvider) -> str:
    if one.unusable:
        return f"## {one.title}\n\n{_filled(f'It cannot be used: {one.unusable}.')}"
    uri = f"Redirect URI: `{one.redirect_uri}`" if one.redirect_uri else "Redirect URI: none to register"
    steps = [_filled(f"- {text}", "  ") for text in (*one.register, f"{uri}.")]
    parts = [f"## {one.title}", "\n".join(steps), f"```\n{options('thv-llm setup', one.ready)}\n```"]
    if one.notes:
        parts.append("\n".join(_filled(f"- {text}", "  ") for text in one.notes))
    if one.errors:
        rows = [f"| `{text}` | {meaning} |" for text, meaning in one.errors.items()]
        parts.append("\n".join(["| error | what it means |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def behavior() -> str:
    """Return what the providers of the tests of the whole do with refresh tokens."""
    heads = ("provider", "a refresh brings", "and ends", "a used refresh token again", "`logout` says")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|"]
    for one in BEHAVIOR.values():
        reuse = f"HTTP {one.reuse}; {'ends the session' if one.ends_session else 'the session goes on'}"
        cells = (
            one.title,
            "a new refresh token" if one.rotates else "no new refresh token",
            "the access token before" if one.ends_access else "nothing",
            reuse,
            one.revocation if "revoked" in one.revocation else f"not revoked: {one.revocation}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def settings() -> str:
    """Return the table of settings."""
    lines = ["| key in `llm.toml` | flag | default | what |", "|---|---|---|---|"]
    for row in ROWS:
        default = "required" if row.required else _shown(row.default)
        lines.append(f"| `{row.key}` | `{row.flag}` | {default} | {row.help.replace('|', '&#124;')} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, tuple):
        value = " ".join(value)
    return f"`{value}`" if value not in ("", None) else ""


def setup() -> str:
    """Return a transcript of setup and teardown."""
    seen = _screens().texts
    return f"```console\n{seen['setup']}\n$ claude -p hello\n{seen['teardown']}\n```"


def screens() -> str:
    """Return what the other screens look like."""
    seen = _screens().texts
    return "\n\n".join(f"```console\n{seen[name]}\n```" for name in ("status", "doctor", "tools"))


def json() -> str:
    """Return the table of what `--format json` prints."""
    lines = ["| command | its JSON |", "|---|---|"]
    lines += [f"| `{command}` | `{_keys(found)}` |" for command, found in _screens().documents.items()]
    return "\n".join(lines)


def _keys(value: object) -> str:
    """Return the names in a document; a list is shown by its first element."""
    if isinstance(value, dict):
        return f"{{{', '.join(name + _keys(member) for name, member in value.items())}}}"
    if isinstance(value, list):
        return f"[{_keys(value[0])}]" if value else "[]"
    return ""


@functools.cache
def _screens() -> machine_screens.Screens:
    return machine_screens.screens()


PARTS: dict[str, Callable[[], str]] = {
    "names": names,
    "pages": pages,
    "tools": tools,
    "commands": commands,
    "behavior": behavior,
    "settings": settings,
    "providers": providers,
    "setup": setup,
    "screens": screens,
    "json": json,
    "states": table.page,
    "said": said,
    "clients": clients,
}


def rewritten(text: str) -> str:
    """Return a document's text with every part as the program has it."""
    for name in parts(text):
        pattern = re.compile(f"(<!-- {name} -->\\n).*?(<!-- /{name} -->)", re.DOTALL)
        content = PARTS[name]().replace("\\", r"\\")
        text = pattern.sub(rf"\g<1>{content}\n\g<2>", text)
    return text


def parts(text: str) -> list[str]:
    """Return the names of the parts that a document has."""
    return re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(rewritten(document.read_text()))
