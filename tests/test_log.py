from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from thv_llm import log

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
LOCAL_KEY = "thv-" + "aB3_" * 10 + "xyz"


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    yield
    log.to(None)


@pytest.mark.parametrize(
    "secret",
    [
        JWT,
        JWT[:20],
        LOCAL_KEY,
        "0123456789abcdef0123456789abcdef",
        "Zm9v+mFy/YmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFy/mF6==",
    ],
)
@pytest.mark.parametrize("around", ["{}", "token {} here", "'{}'", "({})", "x={};", "error: {}."])
def test_a_token_shaped_text_is_hidden(secret: str, around: str) -> None:
    shown = log.redact(around.format(secret))

    assert secret not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Authorization: Bearer short", "short"),
        ("authorization: bearer short", "short"),
        ("Basic dXNlcjpw", "dXNlcjpw"),
        ('{"refresh_token": "rt-1"}', "rt-1"),
        ("access_token=at-1&x=y", "at-1"),
        ("GET /v1/models?key=abc HTTP", "abc"),
        ("https://id.example.com/cb?code=abc&state=d", "abc"),
        ("https://ann:hunter2@proxy.example.com:3128/", "hunter2"),
    ],
)
def test_a_short_secret_is_hidden_by_its_context(text: str, gone: str) -> None:
    assert gone not in log.redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "POST /v1/chat/completions 200  first byte 210 ms  claude-code",
        "cannot read /home/ann/.config/toolhive/bin/thv-llm-token",
        "listening on http://127.0.0.1:14000 for https://llm.example.com/v1",
        "exit code: 4, is this right? yes",
        "/home/Ann1/Projects2/with/many/parts/and/even/More/of/them/until/it/is/long",
    ],
)
def test_an_ordinary_text_stays_as_it_is(text: str) -> None:
    assert log.redact(text) == text


def test_control_bytes_are_escaped_so_that_one_record_is_one_line() -> None:
    assert log.redact("a\nb\x1b[2J\u202ec\x9b") == r"a\nb\x1b[2J\u202ec\x9b"


def test_nothing_is_written_before_a_sink_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("a")
    log.debug("b")

    assert capsys.readouterr() == ("", "")


def test_debug_records_are_written_only_when_asked_for() -> None:
    stream = io.StringIO()
    log.to(stream)
    log.debug("hidden")
    log.info("seen")
    log.to(stream, debug=True)
    log.debug("seen too")

    assert stream.getvalue() == "seen\nseen too\n"


def test_a_closed_stream_does_not_stop_the_work() -> None:
    stream = io.StringIO()
    stream.close()
    log.to(stream)

    log.info("lost")


@pytest.mark.posix
def test_the_file_is_private_even_under_a_wide_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = log.File(str(tmp_path / "log"))
    finally:
        os.umask(before)
    file.close()

    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


@pytest.mark.posix
def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\n")
    (tmp_path / "log").chmod(0o644)
    log.File(str(tmp_path / "log")).close()

    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


@pytest.mark.posix
def test_the_file_does_not_follow_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "log").symlink_to(tmp_path / "precious")

    with pytest.raises(OSError):
        log.File(str(tmp_path / "log"))


def test_a_full_file_is_put_aside_once_and_the_two_stay_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = log.File(str(path), max_bytes=500)
    log.to(file)

    def write() -> None:
        for _ in range(50):
            log.info("x" * 25)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()

    kept = path.read_text() + (tmp_path / "log.1").read_text()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log", "log.1"]
    assert path.stat().st_size <= 500
    assert all(line.endswith("x" * 25) for line in kept.splitlines())


@pytest.mark.posix
def test_a_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = log.File(str(path), max_bytes=100)
    path.unlink()

    file.write("seen\n")
    file.close()

    assert path.read_text().endswith("seen\n")


@pytest.mark.posix
def test_a_file_that_could_not_be_begun_anew_is_begun_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    file = log.File(str(path), max_bytes=50)
    file.write("first " * 4 + "\n")

    def full(*arguments: object) -> int:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        file.write("lost\n")
    file.write("seen\n")
    file.close()

    assert path.read_text().endswith("seen\n")
    assert "first" in (tmp_path / "log.1").read_text()


def test_a_file_that_cannot_be_put_aside_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.1" / "x").mkdir(parents=True)
    file = log.File(str(path), max_bytes=50)
    file.write("first " * 4 + "\n")

    file.write("seen\n")
    file.close()

    assert path.read_text().endswith("seen\n")
    assert path.stat().st_size <= 50


def test_a_signal_handler_may_log_while_its_thread_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    file = log.File(str(path))
    fstat = os.fstat

    def interrupted(descriptor: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", fstat)
        file.write("from the handler\n")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", interrupted)
    file.write("from the thread\n")
    file.close()

    assert [line[-10:] for line in path.read_text().splitlines()] == ["he handler", "the thread"]


def _boom(secret: str) -> None:
    raise ValueError(f"Invalid header value b'Bearer {secret}'")


def test_place_names_type_and_line_but_never_the_text() -> None:
    try:
        _boom("canary")
    except ValueError as error:
        shown = log.place(error)

    assert shown.startswith("ValueError at tests/test_log.py:")


def test_place_prefers_our_own_code_to_the_library_below_it() -> None:
    try:
        log.redact(None)  # type: ignore[arg-type]
    except TypeError as error:
        shown = log.place(error)

    assert shown.startswith("TypeError at log.py:")


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('canary')",
        "import threading; t = threading.Thread(target=lambda: int('canary')); t.start(); t.join()",
        "class A:\n  def __del__(self): int('canary')\nA()",
    ],
)
def test_uncaught_exceptions_are_told_without_their_text(code: str) -> None:
    script = f"import sys; sys.path.insert(0, '.')\nfrom thv_llm import log; log.install_hooks()\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )

    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("thv-llm: bug: ValueError at ")


@pytest.mark.posix
def test_the_token_path_pays_nothing_for_it() -> None:
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "before = set(sys.modules)\nimport thv_llm.log\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=20, check=False
    )

    assert {"re", "typing", "threading", "logging", "json"}.isdisjoint(done.stdout.split())


def test_the_trail_of_an_error_leads_to_where_it_began_without_its_text() -> None:
    try:
        try:
            raise OSError("canary")
        except OSError:
            raise ValueError("canary") from None
    except ValueError as error:
        trail = log.trail(error)

    assert re.fullmatch(r"ValueError at \S+py:\d+, after OSError at \S+py:\d+", trail)
