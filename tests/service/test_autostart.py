from __future__ import annotations

import plistlib
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from thv_llm import paths
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths
from thv_llm.service import autostart
from thv_llm.service.autostart import Autostart
from thv_llm.service.pid_file import STOP_TIMEOUT_S
from thv_llm.system import detach


class Manager:
    """Stands for `systemctl` and `launchctl`: remembers what it was told, returns what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.works = True

    def __call__(self, command: Sequence[str]) -> str:
        words = list(command[4:]) if command[0] == "/bin/sh" else list(command)
        self.told.append(" ".join(words))
        return "done\n" if self.works else ""


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin",
        "HTTPS_PROXY": "http://alice:canary@proxy:3128",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "OPENAI_API_KEY": "canary",
    }


@pytest.fixture
def where(environ: dict[str, str]) -> Paths:
    return paths.find(environ)


@pytest.fixture
def systemd(environ: dict[str, str], manager: Manager) -> Autostart:
    return autostart.of(environ, "linux", manager)


@pytest.fixture
def launchd(environ: dict[str, str], manager: Manager) -> Autostart:
    return autostart.of(environ, "darwin", manager)


def test_systemd_is_told_to_start_it_now_and_at_every_login(
    systemd: Autostart, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    systemd.install(where, environ)

    assert manager.told == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now thv-llm.service",
    ]
    assert systemd.file == f"{environ['HOME']}/.config/systemd/user/thv-llm.service"
    assert systemd.is_installed(where)
    assert systemd.is_current(where, environ)


def test_the_unit_carries_what_it_needs_and_no_secret(
    systemd: Autostart, where: Paths, environ: dict[str, str]
) -> None:
    systemd.install(where, environ)
    text = Path(systemd.file).read_text()

    assert 'Environment="PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring"' in text
    assert '"proxy" "start" "--managed"' in text
    assert 'ExecStart=:"' in text  # a `$` in a path stays one
    assert "canary" not in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("name", ["plain", "with space", "per%cent", "dol$lar"])
def test_systemd_itself_accepts_the_unit(tmp_path: Path, name: str) -> None:
    program = tmp_path / name / "thv-llm.pyz"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environ = {"HOME": str(tmp_path), "THV_LLM_HOME": str(tmp_path / name), "NO_PROXY": 'a"b\\c'}
    unit = tmp_path / "thv-llm.service"
    unit.write_bytes(
        autostart.unit(
            [str(program), 'quo"te', "back\\slash", "proxy", "start"], environ, paths.find(environ)
        )
    )

    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )

    assert "thv-llm.service" not in done.stderr
    assert done.returncode == 0


def test_launchd_gets_a_property_list_that_holds_the_same(
    launchd: Autostart, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    launchd.install(where, environ)
    document = plistlib.loads(Path(launchd.file).read_bytes())

    assert document["ProgramArguments"][-3:] == ["proxy", "start", "--managed"]
    assert document["EnvironmentVariables"] == {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    assert document["RunAtLoad"] is True
    assert document["KeepAlive"] == {"SuccessfulExit": False}
    assert launchd.file == f"{environ['HOME']}/Library/LaunchAgents/dev.thv-llm.service.plist"
    assert [line.split()[1] for line in manager.told] == ["bootout", "bootstrap"]
    assert launchd.is_installed(where)


@pytest.mark.parametrize("kind", ["linux", "darwin"])
def test_a_file_of_an_earlier_version_with_a_proxys_password_is_replaced(
    kind: str, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    one = autostart.of(environ, kind, manager)
    one.install(where, environ)
    with Path(one.file).open("a") as file:
        file.write(f"<!-- HTTPS_PROXY={environ['HTTPS_PROXY']} -->")
    Path(one.file).chmod(0o644)
    assert not one.is_current(where, environ)

    one.install(where, environ)

    assert "canary" not in Path(one.file).read_text()
    assert stat.S_IMODE(Path(one.file).stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["linux", "darwin"])
def test_the_manager_gives_the_end_as_much_time_as_we_do(
    kind: str, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    one = autostart.of(environ, kind, manager)
    one.install(where, environ)
    text = Path(one.file).read_text()

    assert f"TimeoutStopSec={STOP_TIMEOUT_S:.0f}\n" in text or (
        plistlib.loads(text.encode()).get("ExitTimeOut") == STOP_TIMEOUT_S
    )
    assert autostart.TOOL_TIMEOUT_S > STOP_TIMEOUT_S


def test_a_directory_with_special_characters_is_recognized_again(tmp_path: Path, manager: Manager) -> None:
    environ = {"HOME": str(tmp_path), "THV_LLM_HOME": str(tmp_path / "a & <b>")}
    where = paths.find(environ)
    for platform in ("linux", "darwin"):
        one = autostart.of(environ, platform, manager)
        one.install(where, environ)
        assert one.is_installed(where)


def test_a_directory_whose_name_is_not_utf8_has_no_unit_and_breaks_nothing(
    tmp_path: Path, manager: Manager
) -> None:
    environ = {"HOME": str(tmp_path), "THV_LLM_HOME": f"{tmp_path}/\udcff"}
    where = paths.find(environ)
    one = autostart.of(environ, "linux", manager)

    assert not one.is_installed(where)
    with pytest.raises(ThvLlmError, match="cannot stand in a unit file"):
        one.install(where, environ)


def test_uninstall_takes_everything_back(
    systemd: Autostart, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    systemd.install(where, environ)
    manager.told.clear()

    assert systemd.uninstall(where)
    assert manager.told == [
        "systemctl --user disable --now thv-llm.service",
        "systemctl --user daemon-reload",
    ]
    assert not Path(systemd.file).exists()
    assert not systemd.uninstall(where)


@pytest.mark.parametrize("kind", ["systemd", "launchd"])
def test_a_file_of_another_program_stays(
    kind: str, request: pytest.FixtureRequest, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    one: Autostart = request.getfixturevalue(kind)
    Path(one.file).parent.mkdir(parents=True)
    Path(one.file).write_text("mine")

    with pytest.raises(ThvLlmError, match="is there already"):
        one.install(where, environ)
    assert not one.uninstall(where)
    assert not one.start(where)
    assert Path(one.file).read_text() == "mine"
    assert manager.told == []


@pytest.mark.parametrize("kind", ["linux", "darwin"])
def test_a_file_for_a_directory_that_is_gone_is_replaced(
    tmp_path: Path, kind: str, environ: dict[str, str], manager: Manager
) -> None:
    old = tmp_path / "old & <place>"
    old.mkdir()
    one = autostart.of(environ, kind, manager)
    one.install(paths.find({**environ, "THV_LLM_HOME": str(old)}), environ)
    new = paths.find({**environ, "THV_LLM_HOME": str(tmp_path / "new")})
    with pytest.raises(ThvLlmError, match="is there already"):
        one.install(new, environ)
    old.rmdir()

    one.install(new, environ)

    assert one.is_installed(new)


def test_a_python_that_was_removed_is_replaced_by_another(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\necho other $*\n")
    (tmp_path / "python3").chmod(0o755)
    command = ["/bin/sh", "-c", autostart.ANY_PYTHON]

    def run(python: str) -> str:
        words = [*command, python, "-I", "a b"]
        return subprocess.run(words, env={"PATH": str(tmp_path)}, capture_output=True, text=True).stdout

    assert run("/bin/echo") == "-I a b\n"
    assert run("/gone/python3.11") == "other -I a b\n"


def test_a_manager_is_there_only_where_its_socket_is(tmp_path: Path, environ: dict[str, str]) -> None:
    assert not autostart.of(environ, "linux").is_available()
    environ["XDG_RUNTIME_DIR"] = str(tmp_path)
    assert not autostart.of(environ, "linux").is_available()
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    assert autostart.of(environ, "linux").is_available()
    assert autostart.of(environ, "darwin").is_available()


def test_a_unit_of_another_directory_of_ours_is_not_started_for_this_one(
    systemd: Autostart, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    systemd.install(where, environ)
    manager.told.clear()
    other = paths.find({**environ, "THV_LLM_HOME": "/elsewhere"})

    assert not systemd.start(other)
    assert manager.told == []
    assert systemd.start(where)
    assert manager.told == ["systemctl --user restart thv-llm.service"]


def test_a_manager_that_refuses_is_an_error_with_a_way_out(
    systemd: Autostart, where: Paths, environ: dict[str, str], manager: Manager
) -> None:
    manager.works = False

    with pytest.raises(ThvLlmError) as caught:
        systemd.install(where, environ)
    assert "systemctl --user daemon-reload: 'it does not respond'" in caught.value.why
    assert not Path(systemd.file).exists()


def test_what_the_manager_says_is_told() -> None:
    real = autostart.of({"PATH": "/usr/bin:/bin"}, "linux")

    with pytest.raises(ThvLlmError) as caught:
        real._tell("sh", "-c", "echo fine; echo 'Failed to connect to bus' >&2; exit 1")
    assert "'Failed to connect to bus'" in caught.value.why


def test_a_path_with_a_line_break_cannot_add_lines_to_the_unit(where: Paths) -> None:
    with pytest.raises(ThvLlmError):
        autostart.unit(["/bin/x\nExecStartPre=/bin/evil"], {}, where)


def test_an_outdated_file_is_noticed(
    systemd: Autostart, where: Paths, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd.install(where, environ)
    monkeypatch.setattr(paths, "own_command", lambda *arguments: ["/elsewhere", *arguments])

    assert systemd.is_installed(where)
    assert not systemd.is_current(where, environ)


class RunKey(dict[str, str]):
    """Stands for Windows' Run key."""

    def set(self, name: str, line: str | None) -> None:
        if line is None:
            del self[name]
        else:
            self[name] = line


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return what was started; the program has a short path, wherever this checkout is."""
    found: list[list[str]] = []
    monkeypatch.setattr(paths, "program", lambda: r"C:\Users\dev\my bin\thv-llm.pyz")
    monkeypatch.setattr(sys, "executable", r"C:\Python313\python.exe")
    monkeypatch.setattr(detach, "start", lambda command, environ: found.append(list(command)))
    return found


def test_windows_gets_one_value_that_starts_the_service_at_login(
    where: Paths, environ: dict[str, str], started: list[list[str]]
) -> None:
    key = RunKey({"OneDrive": "theirs"})
    one = autostart.of(environ, "win32", run_key=key)
    assert one.is_available()
    assert not one.is_installed(where)

    one.install(where, environ)

    assert one.kind == "Windows"
    assert one.file == r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run\thv-llm"
    assert key["thv-llm"].endswith(
        " -I " + subprocess.list2cmdline([paths.program()]) + " proxy start --managed"
    )
    assert "canary" not in key["thv-llm"]
    assert started == [paths.own_command("proxy", "start", "--managed")]
    assert one.is_installed(where)
    assert one.is_current(where, environ)
    assert not one.start(where)

    assert one.uninstall(where)
    assert not one.uninstall(where)
    assert key == {"OneDrive": "theirs"}


def test_the_value_of_another_directory_of_ours_is_another_one(
    tmp_path: Path, environ: dict[str, str], started: list[list[str]]
) -> None:
    key, elsewhere = RunKey(), {**environ, "THV_LLM_HOME": str(tmp_path / "it's here")}
    for each in (environ, elsewhere):
        autostart.of(each, "win32", run_key=key).install(paths.find(each), each)

    assert len(key) == 2
    line = key[f"thv-llm {tmp_path}/it's here"]
    assert line.endswith(f'proxy start --managed --at "{tmp_path}/it\'s here"')

    autostart.of(elsewhere, "win32", run_key=key).uninstall(paths.find(elsewhere))
    assert list(key) == ["thv-llm"]


def test_a_command_line_that_windows_would_not_run_is_refused(
    tmp_path: Path, environ: dict[str, str], started: list[list[str]]
) -> None:
    key, deep = RunKey(), {**environ, "THV_LLM_HOME": str(tmp_path / ("x" * 250))}

    with pytest.raises(ThvLlmError, match="Windows cannot start the service at login"):
        autostart.of(deep, "win32", run_key=key).install(paths.find(deep), deep)
    assert key == {}
    assert started == []


@pytest.mark.usefixtures("started")
def test_a_run_key_that_may_not_be_written_is_an_error(where: Paths, environ: dict[str, str]) -> None:
    class Refusing(RunKey):
        def set(self, name: str, line: str | None) -> None:
            raise PermissionError(13, "Access is denied")

    with pytest.raises(ThvLlmError, match=r"(?s)did not take the service.*Access is denied"):
        autostart.of(environ, "win32", run_key=Refusing()).install(where, environ)
