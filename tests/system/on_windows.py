"""What `system` does on Windows; where Wine cannot show it, with what Windows would return put in its place.

`make windows` runs this file under CPython for Windows; as its name says, no other run collects it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thv_llm import files
from thv_llm.errors import ThvLlmError
from thv_llm.proxy import event_loop, server
from thv_llm.service.agent import Agent
from thv_llm.system import detach, file_system, peers, processes, terminal, windows, windows_pipe
from thv_llm.tokens import grants

assert sys.platform == "win32"

WAIT_S = 10.0


class Returning:
    """A system library some of whose functions return what they are told, with an error of the system's."""

    def __init__(self, real: Any, results: dict[str, tuple[Any, int]]) -> None:
        self._real = real
        self._results = results

    def __getattr__(self, name: str) -> Any:
        if name not in self._results:
            return getattr(self._real, name)
        result, code = self._results[name]

        def returned(*_: Any) -> Any:
            ctypes.set_last_error(code)
            return result

        return returned


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have functions of a library return something: `refuse("kernel32", CreateFileW=(handle, code))`."""

    def refuse(library: str, **results: tuple[Any, int]) -> None:
        real = windows.library
        changed = Returning(real(library), results)
        monkeypatch.setattr(windows, "library", lambda name: changed if name == library else real(name))

    return refuse


# --- the pipe ---


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[windows_pipe.Listener]:
    found = windows_pipe.Listener(str(tmp_path / "llm.sock"))
    yield found
    found.close()


def test_a_line_goes_there_and_back_between_processes_of_this_user(
    tmp_path: Path, listener: windows_pipe.Listener
) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            assert connection.is_own_user()
            connection.sendall(connection.recv(100)[::-1])

    thread = threading.Thread(target=serve)
    thread.start()
    with windows_pipe.connect(str(tmp_path / "llm.sock"), WAIT_S) as client:
        assert client.is_own_user()
        client.sendall(b"abc")
        assert client.recv(100) == b"cba"
    thread.join(WAIT_S)


def test_the_pipe_lets_no_other_user_in(listener: windows_pipe.Listener) -> None:
    assert windows.own_sid().startswith("S-1-5-")
    assert not windows.lets_others_in(f"O:{windows.own_sid()}D:P(A;;FA;;;{windows.own_sid()})(A;;FA;;;SY)")


def test_a_name_that_another_program_has_taken_is_refused(
    tmp_path: Path, refuse: Callable[..., None]
) -> None:
    """Of a second first instance Windows says "access denied"; Wine 8 makes it."""
    refuse("kernel32", CreateNamedPipeW=(windows.INVALID_HANDLE, windows.ACCESS_DENIED))
    path = tmp_path / "llm.sock"

    with pytest.raises(OSError) as caught:
        windows_pipe.Listener(str(path))
    assert caught.value.winerror == windows.ACCESS_DENIED

    with pytest.raises(ThvLlmError, match="there can be no socket"):
        Agent(str(path), lambda *_: None, lambda *_: "").start()  # type: ignore[arg-type]
    assert not path.exists()


def test_a_server_of_another_user_is_not_trusted(
    tmp_path: Path, listener: windows_pipe.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "sid_of", lambda pid: "S-1-5-21-1-2-3-1001")

    with windows_pipe.connect(str(tmp_path / "llm.sock"), WAIT_S) as client:
        assert not client.is_own_user()


def test_a_client_of_another_user_is_not_served(
    tmp_path: Path, listener: windows_pipe.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with windows_pipe.connect(str(tmp_path / "llm.sock"), WAIT_S):
        connection, _ = listener.accept()
        with connection:
            assert connection.is_own_user()
            monkeypatch.setattr(windows, "sid_of", lambda pid: "S-1-5-21-1-2-3-1001")
            assert not connection.is_own_user()


def test_no_other_machine_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = windows.library("kernel32"), []

    class Asked:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def CreateNamedPipeW(self, *values: Any) -> Any:
            asked.append(values)
            return real.CreateNamedPipeW(*values)

    windows.private_descriptor()
    monkeypatch.setattr(windows, "library", lambda name: Asked())
    windows_pipe.Listener(str(tmp_path / "llm.sock")).close()
    ((_, opened, mode, *_),) = asked
    assert opened & windows_pipe.FIRST
    assert mode == windows_pipe.LOCAL_ONLY


# --- files ---


def busy(times: int) -> Callable[[], str]:
    """Return what a file that a virus scanner holds for a while does."""
    left = [OSError(0, "", None, windows.SHARING_VIOLATION)] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


def test_a_file_that_another_program_holds_for_a_moment_is_waited_for() -> None:
    assert windows.patient(busy(3)) == "done"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A file that a program has open and shares with nobody."""
    path = tmp_path / "settings.json"
    path.write_bytes(b"{}")
    kernel = windows.library("kernel32")
    handle = kernel.CreateFileW(
        ctypes.c_wchar_p(str(path)), windows.GENERIC_READ, 0, None, windows.OPEN_EXISTING, 0x80, None
    )
    assert handle != windows.INVALID_HANDLE
    yield path
    kernel.CloseHandle(ctypes.c_void_p(handle))


@pytest.mark.parametrize(
    "act",
    [
        files.read,
        lambda path: files.replace(path, b"new"),
        lambda path: files.replace(path, b"new", expected=b"{}"),
        lambda path: files.delete(path, expected=b"{}"),
    ],
)
def test_a_file_that_another_program_has_open_is_not_told_as_forbidden(
    held: Path, act: Callable[[str], object]
) -> None:
    with pytest.raises(ThvLlmError, match="another program has it open") as caught:
        act(str(held))
    assert caught.value.next_step.startswith("close it there")


def test_a_file_that_stays_open_elsewhere_is_told_as_that(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(OSError) as caught:
        windows.patient(busy(1000), 0.2)
    assert caught.value.winerror == windows.SHARING_VIOLATION
    assert time.monotonic() - began < WAIT_S
    assert file_system.is_in_use(caught.value)


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    """An open file cannot be removed, unless all who have it open allow that."""
    path = tmp_path / "llm.toml"
    left = Path(files.temporary_of(str(path)))
    left.write_bytes(b"half")

    files.remove_temporary(str(left), str(path))
    assert left.exists()  # a name that is recorded is random
    recorded = Path(files.temporary_name(str(path)))
    recorded.write_bytes(b"half")
    files.remove_temporary(str(recorded), str(path))
    assert not recorded.exists()
    files.replace(str(path), b"whole")
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_file_of_ours_is_replaced_although_it_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses that; Wine does not."""
    real = os.replace

    def replace(new: str, target: str) -> None:
        if os.path.exists(target) and not os.access(target, os.W_OK):
            raise OSError(0, "", None, windows.ACCESS_DENIED)
        real(new, target)

    monkeypatch.setattr(os, "replace", replace)
    path = tmp_path / "llm.toml"
    path.write_bytes(b"old")
    path.chmod(0o444)

    files.replace(str(path), b"new", is_ours=True)
    assert path.read_bytes() == b"new"


def test_a_file_that_was_moved_aside_in_vain_comes_back(tmp_path: Path, refuse: Callable[..., None]) -> None:
    """ReplaceFile has two steps, and may fail between them (ERROR_UNABLE_TO_MOVE_REPLACEMENT_2)."""
    path, temporary = tmp_path / "settings.json", Path(files.temporary_name(str(tmp_path / "settings.json")))
    aside = Path(f"{temporary}{windows.ASIDE}")
    temporary.write_bytes(b"new")
    aside.write_bytes(b"old")
    refuse("kernel32", ReplaceFileW=(0, 1177))

    with pytest.raises(OSError):
        file_system.swap(str(temporary), str(path))
    assert path.read_bytes() == b"old"

    path.rename(aside)  # the same, had we been killed then
    files.remove_temporary(str(temporary), str(path))
    assert path.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_file_can_become_empty(tmp_path: Path) -> None:
    """Its time is set then, which cannot be done by a descriptor there."""
    path = tmp_path / "settings.json"
    path.write_bytes(b"{}")

    files.replace(str(path), b"", expected=b"{}")
    assert path.read_bytes() == b""


def test_a_lock_is_one_process_s_and_goes_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "x.lock")
    code = f"import sys; sys.path.insert(0, {os.getcwd()!r}); from thv_llm.system import file_system as f;"
    code += f"f.try_lock(f.open_file({path!r}, 0x102)); print('locked', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline().strip() == b"locked"
        mine = file_system.open_file(path, os.O_RDWR | os.O_CREAT)
        with pytest.raises(BlockingIOError):
            file_system.try_lock(mine)
        holder.kill()
        holder.wait()
        file_system.try_lock(mine)
        os.close(mine)


def test_a_directory_of_ours_has_an_access_list_of_its_own(tmp_path: Path) -> None:
    path = str(tmp_path / "ours")
    files.private_directory(path)

    assert not windows.lets_others_in(windows.access_list(path))


def test_a_directory_that_may_not_be_made_is_an_error_with_its_name(
    tmp_path: Path, refuse: Callable[..., None]
) -> None:
    refuse("kernel32", CreateDirectoryW=(0, windows.ACCESS_DENIED))

    with pytest.raises(ThvLlmError, match=r"cannot make the directory .*ours"):
        files.private_directory(str(tmp_path / "ours"))


@pytest.mark.parametrize(
    ("listed", "is_open"),
    [
        ("O:S-1-5-21-1D:P(A;OICI;FA;;;S-1-5-21-1)(A;OICI;FA;;;SY)", False),
        ("O:S-1-5-21-1D:(A;;FA;;;S-1-5-21-1)(A;;0x1200a9;;;WD)", True),
        ("O:S-1-5-21-1D:AI(A;ID;FA;;;BA)(A;ID;FR;;;BU)", True),
        ("O:S-1-5-21-1D:(A;;FR;;;AU)", True),
        ("O:S-1-5-21-1D:(D;;FA;;;WD)(A;;FA;;;SY)", False),
        ("O:S-1-5-21-1D:NO_ACCESS_CONTROL", True),
    ],
)
def test_an_access_list_tells_whether_others_get_in(listed: str, is_open: bool) -> None:
    assert windows.lets_others_in(listed) is is_open


@pytest.mark.parametrize(
    ("listed", "is_told"),
    [
        ("O:S-1-5-21-1D:(A;;FA;;;S-1-5-21-1)(A;;0x1200a9;;;BU)", False),
        ("O:S-1-5-21-1D:(A;;FA;;;S-1-5-21-1)(A;ID;0x1301bf;;;AU)", True),
        ("O:S-1-5-21-1D:NO_ACCESS_CONTROL", True),
    ],
)
def test_a_file_with_a_secret_must_not_be_writable_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, is_told: bool
) -> None:
    path = tmp_path / "token"
    path.write_text("Bearer")
    monkeypatch.setattr(windows, "access_list", lambda _: listed)

    told = ""
    try:
        grants.headers_in(str(path))
    except ThvLlmError as error:
        told = error.why
    assert ("other users can write to it" in told) is is_told


@pytest.mark.parametrize(
    ("listed", "is_trusted"),
    [
        ("O:BAD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1200a9;;;BU)", True),
        ("O:SYD:(A;;FA;;;BA)(A;;FA;;;BU)", False),
        ("O:S-1-5-21-1D:(A;;FA;;;BA)", False),
        ("O:BAD:NO_ACCESS_CONTROL", False),
    ],
)
def test_settings_for_all_must_be_the_administrators(listed: str, is_trusted: bool) -> None:
    assert windows.is_administrators(listed) is is_trusted


# --- secrets ---


def test_what_is_sealed_opens_for_the_same_purpose_only() -> None:
    sealed = windows.protect(b"rt-1", b"ours")

    assert windows.unprotect(sealed, b"ours") == b"rt-1"
    with pytest.raises(OSError):
        windows.unprotect(sealed, b"theirs")
    with pytest.raises(OSError):
        windows.unprotect(sealed[:-1] + bytes((sealed[-1] ^ 1,)), b"ours")


def test_a_logon_without_keys_is_an_error_of_the_systems(refuse: Callable[..., None]) -> None:
    refuse("crypt32", CryptProtectData=(0, 0x8009000B - (1 << 32)))  # NTE_BAD_KEY_STATE

    with pytest.raises(OSError):
        windows.protect(b"rt-1", b"ours")


# --- processes ---


def test_a_process_is_known_by_its_creation_and_only_that_one_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = processes.look(child.pid)
        assert found is not None
        assert not processes.kill(processes.Process(child.pid, "1", found.command))
        assert child.poll() is None
        assert processes.kill(found)
        child.wait(WAIT_S)
    assert processes.look(child.pid) is None


def test_a_process_that_this_user_may_not_open_is_unknown(refuse: Callable[..., None]) -> None:
    refuse("kernel32", OpenProcess=(0, windows.ACCESS_DENIED))

    assert processes.look(4) is None
    assert windows.sid_of(4) == ""


@pytest.mark.parametrize(
    ("pids", "said"),
    [([4711], "a program of another user (pid 4711)"), ([0], ""), ([], "")],
)
def test_the_owner_of_a_port_may_be_another_user(
    monkeypatch: pytest.MonkeyPatch, pids: list[int], said: str
) -> None:
    """Windows lets this user not look at their process; Wine names no process at all."""
    monkeypatch.setattr(windows, "listeners", lambda port: pids)
    monkeypatch.setattr(processes, "look", lambda pid: None)

    assert processes.listener(14000) == said


def test_a_port_that_has_a_listener_is_in_the_table() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert windows.listeners(server.getsockname()[1])
        port = server.getsockname()[1]
    assert not windows.listeners(port)


def test_a_worker_lives_in_no_group_of_ours_and_gives_one_line() -> None:
    code = "import os; os.write(1, b'line\\n')"

    assert detach.first_line_of([sys.executable, "-I", "-c", code], dict(os.environ), b"") == "line"


def test_what_is_handed_over_arrives() -> None:
    code = "import os; data = os.read(0, 100); os.write(1, data[::-1] + b'\\n')"

    assert detach.first_line_of([sys.executable, "-I", "-c", code], dict(os.environ), b"abc") == "cba"


# --- ports ---


def test_a_port_of_ours_is_taken_over_by_nobody() -> None:
    """Windows gives a port to a second listener that asks for it, unless the first forbids that."""
    listener = server._Listener(socket.AF_INET, "127.0.0.1", 0, lambda _: None)
    sock = listener.transports[0].sock
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
        with pytest.raises(OSError) as caught:
            server._Listener(socket.AF_INET, "127.0.0.1", listener.port, lambda _: None)
    assert caught.value.errno in peers.TAKEN


def test_one_socket_that_broke_does_not_end_the_others() -> None:
    """`select` refuses the whole set then; `test_event_loop` is about what follows."""
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = ours.fileno()
        ours.close()
        assert event_loop._is_broken(descriptor)
        assert not event_loop._is_broken(theirs.fileno())


# --- the rest ---


def test_the_run_key_takes_and_gives_back() -> None:
    key = windows.RunKey()
    assert key.get("thv-llm test") is None

    key.set("thv-llm test", '"C:\\x y\\python.exe" -I "C:\\ż"')
    assert key.get("thv-llm test") == '"C:\\x y\\python.exe" -I "C:\\ż"'
    key.set("thv-llm test", None)
    assert key.get("thv-llm test") is None


def test_the_null_device_is_no_terminal_though_it_says_so() -> None:
    with open(os.devnull, encoding="utf-8") as null:
        assert null.isatty()
        assert not terminal.is_one(null)
        assert terminal.lines(null) is None
