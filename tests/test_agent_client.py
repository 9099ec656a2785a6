"""The program around it is tried in tests/commands/test_token.py and tests/service/test_agent.py."""

from __future__ import annotations

import _socket
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from thv_llm import agent_client

TOP = str(Path(__file__).parents[1])
NONSENSE = (
    "thv-llm: error: the background service gave a response that makes no sense\n"
    "  next: thv-llm proxy restart\n"
)


def run(home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    program = f"import os, sys; sys.path.insert(0, {TOP!r})\nfrom thv_llm import agent_client\n"
    program += "agent_client.main(os.environ); print('went on')"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        env={"HOME": str(home), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_imports_nothing_that_costs_time() -> None:
    program = (
        f"import os, sys; sys.path.insert(0, {TOP!r}); before = set(sys.modules)\n"
        "from thv_llm import agent_client\nprint(sorted(set(sys.modules) - before))"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "['__future__', 'thv_llm', 'thv_llm.agent_client']\n"


def test_without_an_agent_it_leaves_the_work_to_others(tmp_path: Path) -> None:
    assert run(tmp_path).stdout == "went on\n"


@pytest.mark.parametrize(
    ("response", "stdout", "stderr", "code"),
    [
        (b"ok 12 at-1\n", "at-1\n", "", 0),
        (b"err 4 no\x1f  why:  ended\n", "", "thv-llm: error: no\n  why:  ended\n", 4),
        (b"what 4 no\n", "", NONSENSE, 1),
        (b"err x at-canary\n", "", NONSENSE, 1),
        (b"\n", "", NONSENSE, 1),
        (b"ok 12 at-1", "went on\n", "", 0),
        (b"", "went on\n", "", 0),
    ],
)
def test_it_ends_as_the_agent_says(
    tmp_path: Path, response: bytes, stdout: str, stderr: str, code: int
) -> None:
    path = str(tmp_path / "s")
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def respond_once() -> None:
            visitor, _ = listener.accept()
            with visitor:
                asked.append(visitor.recv(100))
                visitor.sendall(response)

        thread = threading.Thread(target=respond_once)
        thread.start()
        done = run(tmp_path, THV_LLM_SOCKET=path)
        thread.join()

    assert asked == [b"token 600\n"]
    assert (done.stdout, done.stderr, done.returncode) == (stdout, stderr, code)


@pytest.mark.parametrize("verb", ["token", "status"])
def test_a_relative_place_in_a_directory_that_was_deleted_is_no_traceback(tmp_path: Path, verb: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}"; exec "{sys.executable}" -I "{TOP}/thv_llm.py" {verb}'

    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=gone,
        env={"HOME": str(tmp_path), "THV_LLM_HOME": "here", "THV_LLM_SOCKET": "there"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert done.returncode == {"token": 6, "status": 5}[verb], done


def test_without_a_descriptor_left_there_is_no_response(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(_socket, "socket", refuse)

    assert agent_client.converse("/nowhere", agent_client.REQUEST) is None
