"""The main job on Windows: the built file, under CPython for Windows, with Wine.

Provider, gateway and browser are on Linux: loopback is one. Each machine is a copy of the prefix that
`tests.windows` made, so it has a home of its own; its Wine server ends with it, and every process with
that. `make windows` runs this file; as its name says, no other run collects it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import canaries, windows
from tests.e2e.machine import Done, free_port
from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.matrix import TOP

PYTHON = windows.windows_path(windows.PYTHON)
PYZ = TOP / "dist" / "thv-llm.pyz"
TIMEOUT_S = 60.0
POLL_S = 0.05
ENDING_S = 70.0
"""A worker that a killed helper left behind stays for a minute at most."""
HELPERS, ROUNDS = 50, 5
KILLS, KILLED_AT_ONCE, KILLING_S = 100, 5, 240.0
GONE_S, STALE_S = 2.5, 1.0
"""By then the worker of a helper has left; its token is too old."""

CLAUDE = b'{\r\n  "model": "opus",\r\n  "env": {"EDITOR": "notepad"}\r\n}\r\n'
OPENCODE = b'\xef\xbb\xbf{\r\n  // my own colors\r\n  "theme": "gruvbox",\r\n}\r\n'
CODEX = b'model = "gpt-5"\r\n\r\n[history]\r\npersistence = "none"\r\n'


class Windows:
    """One computer with Windows, its user, and what a test puts there.

    Attributes:
        home: the user's directory, as Linux sees it.
        ours: our own directory.
    """

    def __init__(self, prefix: Path, provider: FakeProvider, gateway: FakeGateway) -> None:
        self.prefix = prefix
        self.provider = provider
        self.gateway = gateway
        self.port = free_port()
        users = prefix / "drive_c" / "users"
        self.home = next(path for path in sorted(users.iterdir()) if path.name != "Public")
        self.ours = self.home / "AppData" / "Local" / "toolhive"
        self.program = self.home / "Programs (mine)" / "thv-llm.pyz"
        self.program.parent.mkdir()
        shutil.copy(PYZ, self.program)
        self.environ = windows.environ(prefix)
        for name in ("PYTHONPATH", "PYTHONUTF8", "PYTHONPYCACHEPREFIX"):  # which are not set there
            del self.environ[name]

    def prepare(self) -> None:
        """Let `os.startfile` of an address end at a browser of Linux."""
        browser = self.prefix / "browser"
        command = f'"{sys.executable}" -m tests.fakes.browser'
        browser.write_text(f'#!/bin/sh\necho "$1" >> "{browser}.log"\ncd "{TOP}"\nexec {command} "$1"\n')
        browser.chmod(0o755)
        key = r"HKCU\Software\Wine\WineBrowser"
        assert self.run("reg", "add", key, "/v", "Browsers", "/d", str(browser), "/f").code == 0

    def path(self, linux: Path) -> str:
        """Return how Windows calls a file of its drive C."""
        return "C:\\" + str(linux.relative_to(self.prefix / "drive_c")).replace("/", "\\")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program with pipes; Windows' Python cannot do with files under Wine."""
        return subprocess.Popen(
            [windows.loader(), *command],
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def add_to_path(self, *directories: Path) -> None:
        """Put directories of Linux in front of Windows' own."""
        self.environ["WINEPATH"] = ";".join(map(windows.windows_path, directories))

    def run(self, *command: str, timeout_s: float = TIMEOUT_S) -> Done:
        """Run a program, and wait for it."""
        done = ended(self.start(*command), timeout_s)
        canaries.RUN.command_output(command, done.out, done.err)
        return done

    def thv(self, *arguments: str, fails: bool = False) -> Done:
        """Run `thv-llm`; unless a failure is expected, it must succeed."""
        done = self.run(PYTHON, "-I", self.path(self.program), *arguments)
        assert fails or done.code == 0, done.said
        assert "Traceback" not in done.err, done.said
        return done

    def setup(self, *more: str) -> Done:
        """Set it up as the administrator says."""
        options = {
            "--gateway-url": self.gateway.url,
            "--issuer": self.provider.issuer,
            "--client-id": self.provider.client_id,
            "--ca-file": windows.windows_path(Path(self.provider.ca_file)),
            "--proxy-port": str(self.port),
        }
        return self.thv("setup", *(word for option in options.items() for word in option), *more)

    @property
    def helper(self) -> list[str]:
        """The command line that tools get."""
        return [PYTHON, "-I", "-S", self.path(self.ours / "bin" / "thv-llm-token.py")]

    def file(self, name: str, data: bytes) -> Path:
        """Put a file into the home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def program_files(self, *names: str) -> None:
        """Put programs that say a version where npm puts its own."""
        for name in names:
            self.file(f"AppData/Roaming/npm/{name}.cmd", b"@echo 1.0.0\r\n")

    def snapshot(self) -> dict[str, bytes]:
        """Return every file of the home, but of our own directory and the temporary one."""
        kept = (path for path in self.home.rglob("*") if path.is_file() and not path.is_symlink())
        named = {str(path.relative_to(self.home)): path for path in kept}
        passing = ("AppData/Local/toolhive/", "Temp/", "AppData/Local/Temp/", "AppData/Local/Microsoft/")
        return {name: path.read_bytes() for name, path in named.items() if not name.startswith(passing)}

    def local_key(self) -> str:
        """Return the key that OpenCode shows to the proxy."""
        settings = (self.home / ".config" / "opencode" / "opencode.jsonc").read_text("utf-8-sig")
        return settings.split('"apiKey": "')[1].split('"')[0]

    def processes(self, words: str) -> list[str]:
        """Return the command lines of this computer's processes that have these words in them."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended meanwhile
                environ = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                if words.encode() in command and f"WINEPREFIX={self.prefix}\0".encode() in environ:
                    found.append(command.decode(errors="replace"))
        return found


def ended(process: subprocess.Popen[bytes], timeout_s: float = TIMEOUT_S) -> Done:
    """Wait for a program, and return what it said until then.

    Not until the end of its stderr: under Wine the service that it started has that open, too.
    """
    until = time.monotonic() + timeout_s
    said: dict[int, bytes] = {}
    with process, selectors.DefaultSelector() as waiting:
        for stream in (process.stdout, process.stderr):
            assert stream
            said[stream.fileno()] = b""
            waiting.register(stream, selectors.EVENT_READ)
        while True:
            has_ended = process.poll() is not None
            ready = [key.fd for key, _ in waiting.select(0 if has_ended else POLL_S)]
            for descriptor in ready:
                more = os.read(descriptor, 65536)
                said[descriptor] += more
                if not more:
                    waiting.unregister(descriptor)
            if has_ended and not any(ready):
                break
            if time.monotonic() > until:
                process.kill()
                raise AssertionError(f"{process.args!r} did not end: {said}")
    out, err = (data.decode() for data in said.values())
    return Done(process.returncode, out, err)


@pytest.fixture(autouse=True)
def _every_thread_ends() -> None:
    """Stand for the check of the other tests: provider and gateway serve all of this file."""


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(provider: FakeProvider) -> Iterator[FakeGateway]:
    with FakeGateway(provider.verify_access_token) as running:
        yield running


@contextlib.contextmanager
def machine(place: Path, provider: FakeProvider, gateway: FakeGateway) -> Iterator[Windows]:
    """Provide a new computer; what it left behind is looked at in the end."""
    prefix = place / "prefix"
    with windows.machine(prefix):
        found = Windows(prefix, provider, gateway)
        found.prepare()
        yield found
        canaries.RUN.files(found.home)


@pytest.fixture(scope="module")
def computer(
    tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider, gateway: FakeGateway
) -> Iterator[Windows]:
    """A computer on which the tests below happen one after the other, as in a user's life."""
    with machine(tmp_path_factory.mktemp("windows"), provider, gateway) as found:
        yield found


@pytest.fixture(scope="module")
def before(computer: Windows) -> dict[str, bytes]:
    """What was there before setup."""
    computer.program_files("claude", "codex", "opencode")
    computer.file(".claude/settings.json", CLAUDE)
    computer.file(".codex/config.toml", CODEX)
    computer.file(".config/opencode/opencode.jsonc", OPENCODE)
    return computer.snapshot()


@pytest.fixture(scope="module")
def setup(computer: Windows, before: dict[str, bytes]) -> Done:
    """How setup ended, which is the beginning of everything else."""
    return computer.setup()


@pytest.mark.usefixtures("before")
def test_setup_logs_in_by_the_browser_and_configures_what_is_there(
    computer: Windows, provider: FakeProvider, setup: Done
) -> None:
    for words in ("Found Claude Code, Codex, OpenCode", "Logged in", "now and at every login"):
        assert words in setup.err, setup.said
    assert provider.count("token") == 1
    assert (computer.prefix / "browser.log").read_text().startswith(provider.issuer)

    claude = (computer.home / ".claude" / "settings.json").read_bytes()
    helper = json.loads(claude)["apiKeyHelper"]
    assert b'\r\n  "model": "opus",\r\n' in claude
    path = f"{computer.path(computer.ours)}/bin/thv-llm-token.py"
    assert helper.startswith(f'"{PYTHON}" -I -S "{path}"'.replace("\\", "/"))
    assert (computer.home / ".config" / "opencode" / "opencode.jsonc").read_bytes().startswith(OPENCODE[:20])
    assert b"\r\n[model_providers.thv-llm" in (computer.home / ".codex" / "config.toml").read_bytes()


@pytest.mark.usefixtures("setup")
def test_every_way_to_a_token_gives_a_good_one(computer: Windows, provider: FakeProvider) -> None:
    launcher = computer.path(computer.ours / "bin" / "thv-llm.cmd")
    for done in (
        computer.thv("token"),
        computer.run(*computer.helper),
        computer.run("cmd", "/c", launcher, "token"),
    ):
        assert done.code == 0, done.said
        provider.verify_access_token(done.out.strip())
        assert done.err == ""


@pytest.mark.usefixtures("setup")
def test_a_response_streams_through_the_proxy(computer: Windows, gateway: FakeGateway) -> None:
    gateway.gap_s = 0.2
    times, status = ask(computer)
    gateway.gap_s = 0.0

    assert status == 200
    assert len(times) >= 3
    assert times[-1] - times[0] >= 0.2
    last = gateway.served("/v1/chat/completions")[-1]
    assert computer.local_key() not in str(last.headers)


def ask(computer: Windows) -> tuple[list[float], int]:
    """Ask through the proxy as OpenCode would; return when each event came, and the status."""
    connection = http.client.HTTPConnection("127.0.0.1", computer.port, timeout=20)
    question = {"model": "m-1", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"Authorization": f"Bearer {computer.local_key()}", "Content-Type": "application/json"}
    times = []
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(question), headers)
        response = connection.getresponse()
        while line := response.readline():
            if line.startswith(b"data: {"):
                times.append(time.monotonic())
    return times, response.status


@pytest.mark.usefixtures("setup")
def test_status_and_doctor_find_nothing_wrong(computer: Windows) -> None:
    status = computer.thv("status")
    assert "logged in" in status.out, status.said

    doctor = computer.thv("doctor", fails=True)
    assert "FAIL" not in doctor.out, doctor.said
    assert "chmod" not in doctor.out


@pytest.mark.usefixtures("setup")
def test_windows_starts_the_service_at_login(computer: Windows) -> None:
    line = at_login(computer)
    computer.thv("proxy", "stop")

    service = computer.start(*line)  # as Windows does when the user logs in
    until = time.monotonic() + TIMEOUT_S
    while computer.thv("proxy", "status", fails=True).code and time.monotonic() < until:
        time.sleep(POLL_S)
    assert ask(computer)[1] == 200
    assert computer.thv("proxy", "restart").code == 0
    assert ended(service).code == 0
    assert ask(computer)[1] == 200


def at_login(computer: Windows) -> list[str]:
    """Return what Windows starts at login for us; nothing when we have not asked for it."""
    key = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run"
    found = re.search(r"(?m)^    thv-llm    REG_SZ    (.+?)\r?$", computer.run("reg", "query", key).out)
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|(\S+)', found[1])] if found else []


@pytest.mark.usefixtures("setup")
def test_crowds_of_helpers_cost_no_session(computer: Windows, provider: FakeProvider) -> None:
    refreshes, wrong = provider.count("refresh"), []
    for _ in range(ROUNDS):
        computer.thv("proxy", "restart")  # which has no token yet
        for done in crowd(computer, computer.helper, HELPERS):
            if done.code or done.err or not is_good(provider, done.out.strip()):
                wrong.append(done.said)

    assert wrong == []
    assert provider.count("refresh") == refreshes + ROUNDS


def crowd(computer: Windows, command: Sequence[str], number: int) -> list[Done]:
    """Start a program many times at once."""
    processes = [computer.start(*command) for _ in range(number)]
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(ended, processes))


def is_good(provider: FakeProvider, token: str) -> bool:
    """Whether the gateway would take a token."""
    try:
        provider.verify_access_token(token)
    except ValueError:
        return False
    return True


@pytest.mark.usefixtures("setup")
def test_helpers_that_are_killed_in_the_refresh_cost_no_session(
    computer: Windows, provider: FakeProvider
) -> None:
    """Without a service, so that helpers refresh; what one has lost, the next would miss.

    Several at once are killed as the provider answers: the old refresh token is dead, the new one on its
    way. By turns the worker of those before is still there, or has left.
    """
    computer.thv("proxy", "stop")
    provider.access_lifetime_s = 1.0  # or one refresh would serve many
    reuses, refreshes = provider.grants.reuses, provider.count("refresh")
    running: list[subprocess.Popen[bytes]] = []
    started, arrived = threading.Event(), threading.Event()

    def strike(response: ServerResponse) -> ServerResponse:
        started.wait(TIMEOUT_S)
        for process in running:
            process.kill()
        arrived.set()
        return response

    provider.alter["refresh"] = strike
    kills = rounds = 0
    until = time.monotonic() + KILLING_S
    while kills < KILLS and time.monotonic() < until:
        started.clear()
        arrived.clear()
        running[:] = [computer.start(*computer.helper) for _ in range(KILLED_AT_ONCE)]
        started.set()
        assert arrived.wait(TIMEOUT_S), [ended(process).said for process in running]
        kills += sum(ended(process).code == -signal.SIGKILL for process in running)
        rounds += 1
        time.sleep(GONE_S if rounds % 2 else STALE_S)
    del provider.alter["refresh"]

    print(f"{kills} kills in {rounds} rounds, {provider.count('refresh') - refreshes} refreshes")
    assert provider.grants.reuses == reuses
    assert kills >= KILLS
    assert computer.run(*computer.helper).code == 0
    provider.access_lifetime_s = 3600.0
    computer.thv("proxy", "start", "--background")


@pytest.mark.usefixtures("setup")
def test_teardown_and_uninstall_leave_every_byte_as_it_was(
    computer: Windows, before: dict[str, bytes]
) -> None:
    computer.thv("teardown")
    assert at_login(computer) == []
    assert computer.snapshot() == before

    done = computer.thv("uninstall")
    assert "Logged out" in done.err, done.said
    assert computer.snapshot() == before
    assert not computer.ours.exists(), sorted(computer.ours.rglob("*"))
    until = time.monotonic() + ENDING_S
    while computer.processes("thv-llm") and time.monotonic() < until:
        time.sleep(POLL_S)
    assert computer.processes("thv-llm") == []


NO_NETWORK = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "npm_config_registry": "http://127.0.0.1:9/",
}
"""Of the tools, for what is not about the question."""
QUESTION = "say pong"
ANSWER = "Pong: seventeen green parrots."


def test_real_tools_reach_the_gateway_with_tokens_of_the_program(
    tmp_path: Path, provider: FakeProvider, gateway: FakeGateway
) -> None:
    gateway.text = ANSWER
    with machine(tmp_path, provider, gateway) as computer:
        computer.add_to_path(*(windows.tool(package).parent for package in windows.TOOLS))
        computer.file(
            ".codex/installation_id", b"00000000-0000-4000-8000-000000000000"
        )  # Wine cannot lock it
        computer.environ.update(NO_NETWORK)
        computer.environ["CODEX_CA_CERTIFICATE"] = windows.windows_path(Path(provider.ca_file))
        done = computer.setup("--models", "m-1")
        assert "Found Claude Code, Codex, OpenCode." in done.err, done.said

        for route, command in {
            "/anthropic/v1/messages": ("claude", "-p", QUESTION),
            "/v1/responses": ("codex", "exec", "--skip-git-repo-check", QUESTION),
            "/v1/chat/completions": ("opencode", "run", "-m", "thv-llm/m-1", QUESTION),
        }.items():
            before = len(gateway.served(route))
            done = computer.run(*command)
            assert ANSWER in " ".join(done.out.split()), done.said
            assert len(gateway.served(route)) > before
