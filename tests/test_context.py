"""The outside of one run."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import pytest

from thv_llm import context
from thv_llm.system import terminal


def test_results_go_to_stdout_and_messages_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    place = context.Context({}, io.StringIO(), out, err)

    place.result("42")
    place.say("thinking")

    assert (out.getvalue(), err.getvalue()) == ("42\n", "thinking\n")


def test_the_real_world_is_this_process() -> None:
    real = context.real()

    assert real.environ is os.environ
    assert abs(real.now() - time.time()) < 60


def test_a_reader_of_stderr_that_went_away_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as err:
        place = context.Context({}, io.StringIO(), io.StringIO(), err)

        place.say("still at work")
        place.say("done")


def test_streams_that_were_closed_before_we_began_are_stood_in_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)

    real = context.real()

    real.say("nobody hears this, stdout least of all")
    assert not real.stdin.isatty()
    assert not real.stdout.isatty()
    with pytest.raises(OSError, match="stdout is closed"):
        real.result("42")


def test_a_browser_variable_that_makes_no_sense_starts_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "/opt/it's mine/browser %s")
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    monkeypatch.setattr(webbrowser, "_browsers", {})

    assert not context.open_browser("http://127.0.0.1:1/")


@pytest.mark.posix
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_shown_in_ascii(encoding: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); from thv_llm import context\n"
        "real = context.real(); real.result('… \\udcff'); real.say('… \\udcff')"
    )
    environ = {"HOME": "/h", "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, check=False)

    shown = "… \udcff\n" if encoding == "utf-8" else "... \udcff\n"
    assert done.stdout == done.stderr == shown.encode(encoding, "backslashreplace")


@pytest.mark.parametrize("obeys", [True, False])
def test_what_passes_is_shown_only_where_it_can_be_taken_back(
    monkeypatch: pytest.MonkeyPatch, obeys: bool
) -> None:
    """An old console of Windows would show the sequence that erases it."""
    monkeypatch.setattr(terminal, "is_one", lambda _: True)
    monkeypatch.setattr(terminal, "takes_colors", lambda _: obeys)
    place = context.Context({}, io.StringIO(), io.StringIO(), err := io.StringIO())

    place.progress("Asking …")
    place.say("done")

    assert err.getvalue() == (f"Asking …{terminal.ERASE}done\n" if obeys else "done\n")
