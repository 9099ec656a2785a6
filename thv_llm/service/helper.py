"""The helper: the small program that direct tools run for a token.

It is a shell script of twenty lines around a Python program of thirty, because a `#!` line can
neither hold a path with spaces nor fall back to another interpreter. The shell costs a
millisecond; Python runs isolated (`-I`: nothing of the current directory or PYTHONPATH is
imported) and without `site` (`-S`), with one import. It asks the agent; what the agent does not
serve at once, the program itself does.

Its callers name themselves (`--tool NAME`), which tells the service whose call it is. A service of an
older version, which does not know that, refuses with exit code 2; then the program is asked.

Everything in it is absolute: tools start it from anywhere, with any PATH. It names the directory
and the socket of the setup that wrote it, whatever the tool's environment says.
"""

from __future__ import annotations

import ast
import os
import re
import shlex

from thv_llm import files, system
from thv_llm.agent_client import MIN_VALID_S, SCROLLBACK
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths, program
from thv_llm.system import file_system

PATIENCE_S = 1.0
"""How long it waits for the agent; the program waits longer, and tells a refresh from an agent that hangs."""

TEMPLATE = """\
#!/bin/sh
# Prints one fresh access token for the LLM gateway. Written by `thv-llm setup`, which also renews it.
python=@python@
program=@program@
socket=@socket@
THV_LLM_HOME=@directory@
THV_LLM_SOCKET=${THV_LLM_SOCKET:-$socket}
export THV_LLM_HOME THV_LLM_SOCKET
if [ ! -x "$python" ]; then
    python=python3
    command -v python3 >/dev/null || {
        echo "thv-llm: error: cannot get an access token" >&2
        echo "  why:  the Python that ran setup is missing, and there is no python3 on PATH" >&2
        exit 1
    }
fi
exec "$python" -I -S -c '
import posix, sys, _socket
cannot = "cannot get an access token\\n  why:  "

def fail(text, code):
    if sys.stderr is not None:
        sys.stderr.write("thv-llm: error: " + text + "\\n")
        sys.stderr.flush()
    posix._exit(code)

def call(path):
    response = b""
    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        sock.settimeout(@patience@)
        sock.connect(path)
        sock.sendall(("token @min_valid@" + tool + "\\n").encode("utf-8", "replace"))
        while not response.endswith(b"\\n"):
            more = sock.recv(65536)
            if not more:
                return ""
            response += more
    except OSError:
        return ""
    return response.decode()[:-1]

path, program, options, tool = sys.argv[1], sys.argv[2], sys.argv[3:], ""
if options[:1] == ["--tool"]:
    tool, options = " for ".join([""] + options[1:2]), options[2:]
word, _, rest = ("" if options else call(path)).partition(" ")
if word == "err" and rest[:2] != "2 ":
    code, _, text = rest.partition(" ")
    fail(text.replace("\\x1f", "\\n"), int(code))
if word == "ok":
    if sys.stdout is None:
        fail("cannot print the token\\n  why:  stdout is closed", 1)
    token = rest.partition(" ")[2].encode() + b"\\n"
    try:
        while token:
            token = token[posix.write(1, token):]
    except OSError as error:
        fail("cannot print the token\\n  why:  " + str(error.strerror).lower(), 1)
    if posix.isatty(1) and sys.stderr is not None:
        sys.stderr.write("@scrollback@\\n")
    posix._exit(0)
if not posix.access(program, posix.R_OK):
    fail(cannot + program + " is missing\\n  next: run setup of the new file", 1)
posix.execv(sys.executable, [sys.executable, "-I", program, "token"] + options)
' "$THV_LLM_SOCKET" "$program" "$@"
"""


WINDOWS_TEMPLATE = """\
# Prints one fresh access token for the LLM gateway. Written by `thv-llm setup`, which also renews it.
# It is run as: python.exe -I -S THIS_FILE
import os
import sys

python=@python@
program=@program@
os.environ["THV_LLM_HOME"] = @directory@
os.environ.setdefault("THV_LLM_SOCKET", @socket@)
if not os.path.exists(program):
    cannot = "thv-llm: error: cannot get an access token\\n  why:  "
    sys.exit(cannot + program + " is missing\\n  next: run setup of the new file")
sys.path.insert(0, program if program.endswith(".pyz") else os.path.dirname(program))
sys.argv[0] = program
tool = "".join(sys.argv[2:3]) if sys.argv[1:2] == ["--tool"] else ""
if tool:
    del sys.argv[1:3]
sys.argv[1:1] = ["token"]
if sys.argv[1:] == ["token"]:
    from thv_llm import agent_client

    agent_client.main(os.environ, tool)
from thv_llm.cli import main

sys.exit(main())
"""
"""On Windows the start of Python is nine tenths of the time, so the helper uses the program's own modules."""


def write(where: Paths, *, python: str = "", program_path: str | None = None) -> None:
    """Write the helper, or make it what this version would write.

    Raises:
        ThvLlmError: a path in it has a line break, or the file cannot be written.
    """
    python = python or system.interpreter()
    directory = os.path.dirname(where.helper)
    files.private_directory(directory)
    text = script(where, python=python, program_path=program_path or program())
    if files.read(where.helper) != text:
        files.replace(where.helper, text, mode=0o700)
    os.chmod(where.helper, 0o700)
    if system.NEEDS_INTERPRETER:
        words = f'"{python}" -I "{program_path or program()}"'.replace("%", "%%")
        files.replace(where.launcher, system.batch_file(f"@{words} %*"))


def command(where: Paths) -> list[str]:
    """Return the words that run the helper."""
    if system.NEEDS_INTERPRETER:
        return [system.interpreter(), "-I", "-S", where.helper]
    may_run = file_system.may_run_programs(os.path.dirname(where.helper))
    return [where.helper] if may_run else ["/bin/sh", where.helper]


def script(where: Paths, *, python: str, program_path: str) -> bytes:
    """Return the helper's text: a shell's in the file system's encoding, Python's in UTF-8."""
    is_python = system.NEEDS_INTERPRETER
    quoted = repr if is_python else _quoted
    values = {
        "python": quoted(python),
        "program": quoted(program_path),
        "directory": quoted(where.directory),
        "socket": quoted(where.socket),
        "patience": str(PATIENCE_S),
        "min_valid": str(MIN_VALID_S),
        "scrollback": SCROLLBACK,
    }
    template = WINDOWS_TEMPLATE if is_python else TEMPLATE
    text = re.sub("@([a-z_]+)@", lambda mark: values[mark[1]], template)
    return text.encode("utf-8", "replace") if is_python else os.fsencode(text)


def names(path: str) -> tuple[str, ...]:
    """Return the absolute paths that a written helper names: interpreter, program. () if it is not ours."""
    text = os.fsdecode(files.read(path) or b"")
    found: list[str] = []
    for mark in ("python=", "program="):
        line = next((line for line in text.split("\n") if line.startswith(mark)), None)
        if line is None:
            return ()
        value = line.removeprefix(mark)
        found += [ast.literal_eval(value)] if system.NEEDS_INTERPRETER else shlex.split(value)
    return tuple(found)


def fault(path: str) -> str:
    """Return why the helper cannot give out a token, in words after its path; "" when it can run."""
    if not os.path.exists(path):
        return "is missing"
    if not is_executable(path):
        return "is not executable"
    gone = [word for word in names(path) if not os.path.exists(word)]
    return f"was written for {gone[0]}, which is missing" if gone else ""


def is_executable(path: str) -> bool:
    """Tell whether the helper can be run, by a shell where its directory does not allow programs."""
    return os.access(path, os.X_OK) or not file_system.may_run_programs(os.path.dirname(path))


def _quoted(path: str) -> str:
    if "\n" in path or "\r" in path:
        raise ThvLlmError(
            "cannot write the token helper",
            why="a path has a line break in its name, which tools' settings cannot hold",
            next_step="set THV_LLM_HOME to another directory",
        )
    return shlex.quote(path)
