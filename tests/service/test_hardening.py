from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

import pytest

from thv_llm.service import hardening

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) and /proc are Linux")


@linux_only
def test_a_hardened_process_writes_no_core_and_cannot_be_dumped() -> None:
    program = (
        "import ctypes, resource\nfrom thv_llm.service.hardening import harden\nharden()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "(0, 0) 0\n"


def test_the_user_at_the_other_end_is_known() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert hardening.peer_uid(ours) == os.getuid()


class FakeSocket:
    """Answers getsockopt as macOS does."""

    def __init__(self, answer: bytes | OSError) -> None:
        self.answer = answer
        self.asked: tuple[int, ...] = ()

    def getsockopt(self, *arguments: int) -> bytes:
        self.asked = arguments
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "uid"),
    [(struct.pack("=IIh", 0, 501, 1) + bytes(66), 501), (b"", -1), (OSError(57, "gone"), -1)],
)
def test_on_macos_local_peercred_is_asked(answer: bytes | OSError, uid: int) -> None:
    fake = FakeSocket(answer)

    assert hardening.peer_uid(fake, "darwin") == uid  # type: ignore[arg-type]
    assert fake.asked == (0, 1, 76)
