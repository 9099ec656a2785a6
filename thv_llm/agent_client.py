"""The shortest way to a token: find the socket, ask the agent, print.

Tools run `thv-llm token` all day, and a zipapp compiles what it imports each time. So the launcher
tries this before anything else, and this one file has all it needs: it imports nothing that costs time,
and ends the process without tidying up.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Mapping
    from typing import NoReturn

MIN_VALID_S = 600
"""Twice the 300 s after which tools call the helper again."""

TIMEOUT_S = 35.0
"""A little more than a refresh can take with everything that can go wrong."""

PROBE_AFTER_S, PROBE_S = 1.5, 1.5
"""After how long without a response the agent is asked for a sign of life, and how long that can take."""

LONGEST_RESPONSE_BYTES = 1 << 20
BREAK = "\x1f"
"""Stands for a line break in a response of one line."""

REQUEST = f"token {MIN_VALID_S}"
INTERRUPTED = "err 130 interrupted"
SILENT = (
    f"err 6 cannot get an access token{BREAK}"
    f"  why:  the background service does not respond{BREAK}  next: thv-llm proxy restart"
)
NONSENSE = f"the background service gave a response that makes no sense{BREAK}  next: thv-llm proxy restart"
SCROLLBACK = (
    "thv-llm: warning: the token is in the history of your terminal now; pipe it to where it is needed"
)


def main(environ: Mapping[str, str], tool: str = "") -> None:
    """Print a token, or the agent's refusal, and end; return only when no agent responds.

    Args:
        tool: whose call it is, if that is known.
    """
    request = f"{REQUEST} for {tool}" if tool else REQUEST
    try:
        response = converse(socket_path(environ, directory(environ)), request)
    except TimeoutError:
        response = SILENT
    except KeyboardInterrupt:
        response = INTERRUPTED
    if response is not None:
        finish(response)


def finish(response: str) -> NoReturn:
    """Print what a response says, and end the process."""
    word, _, rest = response.partition(" ")
    first, _, text = rest.partition(" ")
    if word == "ok":
        _print(text.encode() + b"\n")
    if word != "err" or not first.isdigit():
        _end(1, NONSENSE)
    _end(int(first), text)


def _print(data: bytes) -> NoReturn:
    if sys.stdout is None:
        _end(1, f"cannot print the token{BREAK}  why:  stdout is closed")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as error:
        _end(1, f"cannot print the token{BREAK}  why:  {(error.strerror or 'stdout is broken').lower()}")
    if os.isatty(1) and sys.stderr:
        print(SCROLLBACK, file=sys.stderr, flush=True)
    os._exit(0)


def _end(code: int, text: str) -> NoReturn:
    try:
        if sys.stderr:
            print(f"thv-llm: error: {text.replace(BREAK, chr(10))}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def converse(
    path: str,
    line: str,
    timeout_s: float = TIMEOUT_S,
    *,
    trust: Callable[[socket], None] = lambda _: None,
) -> str | None:
    """Send a line to the agent and return its response, or None when there is no agent.

    Args:
        trust: called before anything is sent; raises when the listener is not to have it.

    Raises:
        TimeoutError: it does not respond in time, or gives no sign of life meanwhile.
    """
    deadline = time.monotonic() + timeout_s
    response = b""
    try:
        sock = _connected(path, PROBE_AFTER_S if timeout_s > PROBE_AFTER_S + PROBE_S else timeout_s)
        try:
            trust(sock)
            sock.sendall(line.encode() + b"\n")
            while not response.endswith(b"\n"):
                try:
                    more = sock.recv(65536)
                except TimeoutError:  # it is at a refresh, or it hangs
                    if time.monotonic() + PROBE_S > deadline or not _is_alive(path):
                        raise
                    continue
                if not more or len(response) > LONGEST_RESPONSE_BYTES:
                    return None  # it went away in mid-sentence
                response += more
        finally:
            sock.close()
    except TimeoutError:
        raise
    except OSError:  # there is none, or no descriptor left
        return None
    return response[:-1].decode("utf-8", "replace")


def _connected(path: str, timeout_s: float) -> socket:
    """Return a connection to the agent: a Unix socket, or what Windows has in its place."""
    if sys.platform == "win32":
        from thv_llm.system.windows_pipe import connect

        return connect(path, timeout_s)
    import _socket

    deadline = time.monotonic() + timeout_s
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        while True:
            try:
                sock.connect(path)
                return sock
            except BlockingIOError:  # its queue is full for a moment, or because it hangs
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(0.01)
    except OSError:
        sock.close()
        raise


def _is_alive(path: str) -> bool:
    """Tell whether the agent takes another connection and says anything; each has its own thread."""
    try:
        sock = _connected(path, PROBE_S)
        try:
            sock.sendall(b"\n")
            return bool(sock.recv(1))
        finally:
            sock.close()
    except OSError:
        return False


def directory(environ: Mapping[str, str]) -> str:
    """Return our directory; `thv_llm.paths` says how it is found. "" where there is no place for it."""
    own, base = environ.get("THV_LLM_HOME"), environ.get("XDG_CONFIG_HOME")
    if own:
        return _absolute(own)
    if sys.platform == "win32":  # not the roaming half: keys do not move between machines
        local = environ.get("LOCALAPPDATA", "")
        return os.path.join(local, "toolhive") if os.path.isabs(local) else ""
    if base and os.path.isabs(base):  # the XDG specification: relative values are ignored
        return os.path.join(base, "toolhive")
    above = home(environ)
    return os.path.join(above, ".config", "toolhive") if above else ""


def home(environ: Mapping[str, str]) -> str:
    """Return the user's home directory: `$HOME`, else of the passwd entry; "" if not absolute.

    On Windows `%USERPROFILE%`: HOME is what a Unix shell sets there, for its own programs.
    """
    if os.environ.get("HOME") == "":
        del os.environ["HOME"]  # of which `expanduser` makes "/"
    found = environ.get("USERPROFILE" if sys.platform == "win32" else "HOME") or os.path.expanduser("~")
    return found if os.path.isabs(found) else ""


def socket_path(environ: Mapping[str, str], ours: str) -> str:
    """Return where the agent listens, or where `$THV_LLM_SOCKET` says it does."""
    named, runtime = environ.get("THV_LLM_SOCKET"), environ.get("XDG_RUNTIME_DIR")
    if named and not _is_lost(named):
        return _absolute(named)
    # With a directory of one's own (THV_LLM_HOME) several instances can run side by side,
    # so the shared runtime directory is not for them.
    if runtime and sys.platform != "win32" and not environ.get("THV_LLM_HOME") and _is_private(runtime):
        return os.path.join(runtime, "toolhive", "llm.sock")
    return os.path.join(ours, "llm.sock") if ours else ""


def _is_lost(path: str) -> bool:
    """Tell whether a socket's place is a runtime directory that the end of a login session removed."""
    runtime, separator, rest = path.rpartition("/toolhive/")
    return bool(separator) and rest == "llm.sock" and not os.path.isdir(runtime)


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # relative to a directory that was deleted: its user will say so
        return path


def _is_private(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_mode & 0o170077 == 0o040000 and found.st_uid == os.getuid()
