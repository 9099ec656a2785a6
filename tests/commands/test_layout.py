"""Screens from 40 to 160 columns: lines break between words, and in an old locale all is ASCII."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from tests.commands.machine import Machine
from thv_llm import cli, context
from thv_llm.commands import help, screen
from thv_llm.system import terminal
from thv_llm.tools.registry import TOOLS

WIDTHS = (40, 60, 80, 120, 160)
SCREENS = (
    ["--help"],
    ["status"],
    ["doctor"],
    ["tools"],
    ["tools", "xcode"],
    ["config", "show"],
    ["proxy"],
    ["models"],
    ["setup", "--client", "nonsense"],
    ["config", "set", "--gateway-url", "http://x", "--proxy-port", "80", "--scopes", "a\x01"],
    ["teardown", "nonsense"],
    ["run", "--", "no-such-program"],
)


def plain(text: str) -> str:
    """Return what stays on the screen: colors and lines that were taken back are gone."""
    lines = [line.rpartition(terminal.ERASE)[2] for line in text.split("\n")]
    return terminal.COLOR.sub("", "\n".join(lines))


def shown(here: Machine, width: int, words: list[str]) -> str:
    here.environ["COLUMNS"] = str(width)
    done = here.run(*words, is_terminal=True)
    return plain(done.err + done.out)


def too_wide(text: str, width: int) -> Iterator[str]:
    """Yield the lines that the terminal would break: a single word that is wider is none of ours."""
    for line in text.split("\n"):
        if len(line) > width and len(line.split()) > 1:
            yield line


def check(texts: dict[int, str]) -> None:
    """Compare a screen at every width: the same words, none of them in two pieces, no line too wide."""
    for width, text in texts.items():
        assert list(too_wide(text, width)) == [], width
        assert without_numbers(text) == without_numbers(texts[160]), width


def without_numbers(text: str) -> list[str]:
    """Return the words, without what differs from run to run."""
    return re.sub(r"\d+(\.\d+)?", "0", text).split()


@pytest.mark.parametrize("words", SCREENS, ids=lambda words: " ".join(words)[:30])
def test_no_line_breaks_inside_a_word(here: Machine, words: list[str]) -> None:
    here.setup("--yes")

    check({width: shown(here, width, words) for width in WIDTHS})


def test_what_setup_login_and_teardown_say_fits_too(here: Machine) -> None:
    said: dict[str, dict[int, str]] = {}
    for width in WIDTHS:
        for words in (
            ["setup", *here.connection, "--yes", "--no-service"],
            ["login", "--force"],
            ["login"],
            ["logout"],
            ["teardown"],
            ["uninstall", "--yes"],
        ):
            text = re.sub(r"/authorize\?\S+", "/authorize", shown(here, width, words))
            said.setdefault(words[0] + str(len(words)), {})[width] = text
    for texts in said.values():
        check(texts)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_fits(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")  # Python 3.14's argparse has colors, which take no column
    found = {}
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr("sys.stdout", out := io.StringIO())
        monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
        with pytest.raises(SystemExit):
            cli.build_parser(verb).parse_args([verb, "--help"])
        found[width] = out.getvalue()
    check(found)


@pytest.mark.parametrize("topic", help.topics())
def test_pages_of_the_manual_fit(here: Machine, topic: str) -> None:
    check({width: shown(here, width, ["help", topic]) for width in WIDTHS})


def test_what_follows_a_label_stays_in_its_column() -> None:
    text = "  next: thv-llm setup --gateway-url https://llm.example.com --issuer https://id.example.com"

    assert terminal.fitted(text, 60).splitlines() == [
        "  next: thv-llm setup --gateway-url https://llm.example.com",
        "        --issuer https://id.example.com",
    ]


def test_a_narrow_terminal_breaks_a_text_once() -> None:
    text = "a page of the manual has many words in it, " * 3

    for width in (40, 60):
        broken = terminal.fitted(f"name    {screen.wrapped(text, 8)}", width)
        assert broken.split("\n") == terminal.fitted(f"name    {text.strip()}", width).split("\n")


def test_a_paragraph_of_a_page_is_broken_once() -> None:
    page = ["One line that", "`has code` at the start of the next.", "", "```", "`code`", "stays", "```"]

    assert help._reflowed(page) == [" ".join(page[:2]), *page[2:]]


def test_a_word_that_is_too_wide_stays_whole_and_colors_take_no_room() -> None:
    url = "https://id.example.com/" + "x" * 60

    assert url in terminal.fitted(f"  Open {url} in a browser", 40).split()
    assert terminal.fitted("\x1b[32mok\x1b[0m   " + "a" * 30, 36).count("\n") == 0


def test_progress_is_taken_back_before_anything_else_is_said(here: Machine) -> None:
    here.setup("--yes")

    told = here.run("login", is_terminal=True).err

    assert "Trying the session …" in told
    assert "Trying" not in plain(told)
    assert plain(told).startswith("Already logged in as")
    here.environ["TERM"] = "dumb"
    assert "Trying" not in here.run("login", is_terminal=True).err


def test_an_old_locale_gets_ascii() -> None:
    context.real()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=context.IN_ASCII)
    stream.write("Waiting … ┌─┐ a · b → “x” é")
    stream.flush()

    assert stream.buffer.getvalue() == rb"""Waiting ... +-+ a - b -> "x" \xe9"""


def test_every_character_that_a_user_is_shown_has_an_ascii_form() -> None:
    told = {text for tool in TOOLS for text in (tool.note, tool.reason, tool.remedy, *tool.afterwards)} | {
        cli.overview(),
        *(cli.build_parser(verb).format_help() for verb in cli.VERBS),
    }

    assert {one for text in told for one in text if not one.isascii()} <= terminal.ASCII.keys()
