"""Logging to stderr and to the service's file, with a last filter that hides anything token-shaped.

Rule 1: the caller keeps secrets out of the text; `redact` is the net below, not the plan.
Rule 2: an exception is reported by type and place only: its text, and the values of its
        frames, are where tokens leak (http.client puts the whole header into a ValueError).
Rule 3: one record is one line; control bytes are escaped, so no text from outside can move
        the cursor or forge a record.

The standard library's `logging` would cost the token path 14 ms; `re` is imported only when
something is written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from thv_llm.system import file_system

TYPE_CHECKING = False  # as in `typing`, whose import would bring `re`
if TYPE_CHECKING:
    import re
    import threading
    from types import TracebackType
    from typing import TextIO

MAX_FILE_BYTES = 1_000_000
"""Then the file becomes `PATH.1`, which replaces the one before: at most 2 MB in all."""
MAX_RECORD_CHARACTERS = 2_000
"""Room for any message of ours; what is longer came from outside."""

_SHAPES = (
    # A JWT, or the start of one: base64url of `{"`.
    (r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,4}", "***"),
    (r"(?i)\b(bearer|basic|negotiate)\s+[^\s\"',;]+", r"\1 ***"),
    (
        r"(?i)\b((?:access|refresh|id)_token|client_secret|code_verifier|password|passphrase)(\W{1,4})[^\s\"'&,}]+",
        r"\1\2***",
    ),
    # The query of a URL or a path: codes and keys travel there.
    (r"((?:https?://|/)[^\s?\"'<>]*)\?[^\s\"'<>]+", r"\1?***"),
    (r"(?i)(https?://)[^\s/@\"']+@", r"\1***@"),
    # base64url and hex runs: opaque tokens, our local key, PKCE verifiers, digests.
    (r"[A-Za-z0-9_-]{32,}", "***"),
    # base64 with its slashes; words of a path are left alone, since one of them precedes.
    (r"(?<![A-Za-z0-9+/._~*-])[A-Za-z0-9+][A-Za-z0-9+/]{39,}={0,2}", "***"),
)


class File:
    """A log file of limited size, private to its owner; safe to use from several threads.

    Args:
        takes_stderr: point the process's stdout and stderr at the file too, so that the
            last words of the interpreter itself are kept.
    """

    def __init__(self, path: str, *, max_bytes: int = MAX_FILE_BYTES, takes_stderr: bool = False) -> None:
        import threading

        self.path = path
        self._max_bytes = max_bytes
        self._takes_stderr = takes_stderr
        self._lock = threading.RLock()  # a signal handler can log in the middle of its thread's record
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = file_system.open_file(self.path, flags, follow=False)
        file_system.dress(descriptor, None, 0o600)
        self.close()
        self._descriptor = descriptor
        if self._takes_stderr:
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)

    def write(self, text: str) -> None:
        """Append one record with date and time; a full disk loses it, nothing else."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}".encode("utf-8", "backslashreplace")
        with self._lock, contextlib.suppress(OSError):
            now = os.fstat(self._descriptor)
            is_full = now.st_size + len(line) > self._max_bytes
            if is_full:
                self._put_aside()
            if is_full or not now.st_nlink:  # another process has removed it
                self._open()
            os.write(self._descriptor, line)

    def _put_aside(self) -> None:
        try:
            os.replace(self.path, f"{self.path}.1")
        except FileNotFoundError:
            pass  # done already, by a `write` that could not begin a new file
        except OSError:
            os.ftruncate(self._descriptor, 0)

    def flush(self) -> None:
        """Do nothing: every record is written at once."""

    def close(self) -> None:
        """Close the file; the process's own stdout and stderr stay where they are."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


_sink: TextIO | File | None = None
_debug = False
_patterns: list[tuple[re.Pattern[str], str]] = []


def to(sink: TextIO | File | None, *, debug: bool = False) -> None:
    """Send records to this sink from now on; None drops them.

    Args:
        debug: whether `debug` records are written, too.
    """
    global _sink, _debug
    _sink, _debug = sink, debug


def is_debug() -> bool:
    """Tell whether `debug` writes anything: whether it is worth preparing a text."""
    return _debug and _sink is not None


def debug(text: str) -> None:
    """Record something that matters only to who looks for a cause."""
    if is_debug():
        _write(text)


def info(text: str) -> None:
    """Record something that happened."""
    if _sink is not None:
        _write(text)


def _write(text: str) -> None:
    assert _sink is not None
    with contextlib.suppress(OSError, ValueError):  # a closed terminal must not stop the work
        _sink.write(redact(text) + "\n")
        _sink.flush()


def redact(text: str) -> str:
    """Return the text as one printable line, without anything that looks like a token."""
    if not _patterns:
        import re

        _patterns.extend((re.compile(shape), instead) for shape, instead in _SHAPES)
    cut = text if len(text) <= MAX_RECORD_CHARACTERS else text[:MAX_RECORD_CHARACTERS] + "…"
    line = cut if cut.isprintable() else "".join(map(_printable, cut))
    for pattern, instead in _patterns:
        line = pattern.sub(instead, line)
    return line


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def place(error: BaseException) -> str:
    """Return an exception's type and where it was raised: "ValueError at proxy/server.py:120"."""
    trace = error.__traceback__
    return f"{type(error).__name__} at {_where(trace)}"


def trail(error: BaseException) -> str:
    """Return the places of an exception and of those it came from, latest first."""
    places = []
    one: BaseException | None = error
    while one is not None:
        places.append(place(one))
        one = one.__cause__ or one.__context__
    return ", after ".join(places)


def _where(trace: TracebackType | None) -> str:
    """Return the innermost line of ours, or the innermost of all when none is."""
    innermost = ours = ""
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        parts = filename.replace("\\", "/").split("/")
        innermost = f"{'/'.join(parts[-2:])}:{trace.tb_lineno}"
        if "thv_llm" in parts:
            last = len(parts) - 1 - parts[::-1].index("thv_llm")
            ours = f"{'/'.join(parts[last + 1 :])}:{trace.tb_lineno}"
        trace = trace.tb_next
    return ours or innermost or "an unknown place"


def report(error: BaseException, doing: str) -> None:
    """Record an exception that is not handled; on stderr when there is no log."""
    text = f"bug: {place(error)}, {doing}"
    if _sink is not None:
        _write(text)
    elif sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"thv-llm: {redact(text)}", file=sys.stderr, flush=True)


def install_hooks() -> None:
    """Make Python itself report uncaught exceptions by type and place, in every thread."""
    sys.excepthook = _on_main
    sys.unraisablehook = _on_unraisable
    import threading

    threading.excepthook = _on_thread


def _on_main(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    report(error, "in the main thread")


def _on_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        report(args.exc_value, f"in the thread {args.thread.name if args.thread else '(gone)'}")


def _on_unraisable(args: object) -> None:
    error = getattr(args, "exc_value", None)
    if isinstance(error, BaseException):
        report(error, "while cleaning up")
