"""The composition in one process: what is opened, in which order it is closed, what is returned."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.service.lab import Lab, until
from thv_llm import files, log, paths, state
from thv_llm.errors import NotConfiguredError, ThvLlmError, UsageError
from thv_llm.proxy.stats import LogEntry
from thv_llm.service import agent_protocol, background, pid_file
from thv_llm.service import service as service_module
from thv_llm.service.pid_file import ServiceRun
from thv_llm.service.service import AlreadyRunningError, Service
from thv_llm.system import processes


def nothing(_: object) -> None:
    """Take anything."""


def service(lab: Lab, *, with_proxy: bool = True, watch: Callable[[LogEntry], None] = nothing) -> Service:
    return Service(lab.paths, lab.environ, now=time.time, with_proxy=with_proxy, watch=watch)


@contextmanager
def running(one: Service) -> Iterator[ServiceRun]:
    """Run a service in a thread, from ready to its end."""
    ready: list[ServiceRun] = []
    is_ready = threading.Event()

    def tell(run: ServiceRun) -> None:
        ready.append(run)
        is_ready.set()

    thread = threading.Thread(target=one.run, args=(tell,))
    thread.start()
    try:
        assert is_ready.wait(10)
        yield ready[0]
    finally:
        one.stop()
        thread.join()


def test_agent_proxy_and_pid_file_are_there_when_it_is_ready_and_gone_afterwards(lab: Lab) -> None:
    with running(service(lab)) as run:
        assert pid_file.read(lab.paths.pid) == run
        assert run.port == lab.port
        assert agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10)
        assert lab.get("/v1/models")[0] == 200

    assert not Path(lab.paths.pid).exists()
    assert not Path(lab.paths.socket).exists()
    assert not background.is_listening(lab.port)


def test_every_exchange_is_told_without_a_secret(lab: Lab) -> None:
    told: list[LogEntry] = []
    with running(service(lab, watch=told.append)):
        lab.get("/v1/models?key=canary")
        until(lambda: told)

    assert [(one.method, one.path, one.status) for one in told] == [("GET", "/v1/models", 200)]
    assert "canary" not in repr(told)


def test_its_facts_hold_the_run_and_the_counts(lab: Lab) -> None:
    with running(service(lab)) as run:
        lab.get("/v1/models")
        lab.until_counted(1)
        facts = json.loads(agent_protocol.call(lab.paths.socket, "status", timeout_s=10))

    assert facts["record"] == asdict(run)
    assert facts["proxy"]["requests"] == 1


def test_the_socket_proves_that_it_knows_the_key(lab: Lab) -> None:
    key = state.local_key(lab.paths)
    with running(service(lab, with_proxy=False)):
        assert agent_protocol.is_ours(lab.paths.socket, key)


def test_an_unknown_word_is_refused(lab: Lab) -> None:
    with running(service(lab, with_proxy=False)), pytest.raises(UsageError):
        agent_protocol.call(lab.paths.socket, "reveal everything", timeout_s=10)


def test_the_socket_can_stop_it(lab: Lab) -> None:
    one = service(lab, with_proxy=False)
    thread = threading.Thread(target=one.run, args=(nothing,))
    thread.start()
    deadline = time.monotonic() + 10
    while not Path(lab.paths.pid).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    agent_protocol.call(lab.paths.socket, "stop", timeout_s=10)
    thread.join(10)

    assert not thread.is_alive()


def test_a_second_one_does_not_start(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LOCK_WAIT_S", 0.1)
    with running(service(lab)), pytest.raises(AlreadyRunningError):
        service(lab).run(nothing)
    with files.lock(lab.paths.lock("service"), timeout_s=0, what="x"):
        pass  # both have let go of it


def test_a_taken_port_is_told_by_whom_and_nothing_stays_open(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", lab.port)):
        with pytest.raises(ThvLlmError, match=f"port {lab.port} on 127.0.0.1 is taken") as caught:
            service(lab).run(nothing)
        assert "pid" in caught.value.why
        monkeypatch.setattr(processes, "listener", lambda port: "")
        with pytest.raises(ThvLlmError) as caught:
            service(lab).run(nothing)
        assert caught.value.why == "it is used by another program"
        assert "setup --proxy-port" in caught.value.next_step  # which tells the wired tools, too

    assert not Path(lab.paths.pid).exists()
    assert not Path(lab.paths.socket).exists()
    with running(service(lab)):
        pass


def test_without_settings_there_is_nothing_to_serve(lab: Lab) -> None:
    Path(lab.paths.settings).unlink()

    with pytest.raises(NotConfiguredError):
        service(lab)


def test_require_key_off_lets_every_tool_of_the_machine_in(lab: Lab) -> None:
    lab.run("config", "set", "--no-require-key")
    with running(service(lab)):
        assert lab.get("/v1/models", key="none at all")[0] == 200


def test_it_has_the_next_token_before_it_is_requested(lab: Lab) -> None:
    with running(service(lab, with_proxy=False)):
        deadline = time.monotonic() + 10
        while not lab.provider.grants.refreshes and time.monotonic() < deadline:
            time.sleep(0.005)

    assert lab.provider.grants.refreshes == 1


def test_it_ends_when_its_directory_is_deleted(lab: Lab) -> None:
    one = Service(lab.paths, lab.environ, now=time.time, with_proxy=False, watch=nothing, look_every_s=0.02)
    with running(one):
        thread = next(thread for thread in threading.enumerate() if thread.name.startswith("Thread-"))
        os.unlink(lab.paths.lock("service"))
        thread.join(10)

        assert not thread.is_alive()


def test_its_socket_is_opened_again_without_a_request_to_the_provider(lab: Lab) -> None:
    one = Service(lab.paths, lab.environ, now=time.time, with_proxy=False, watch=nothing, look_every_s=0.02)
    with running(one):
        token = agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10)
        os.unlink(lab.paths.socket)
        until(lambda: os.path.exists(lab.paths.socket))

        assert agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10) == token
    assert lab.provider.grants.refreshes == 1


def test_the_end_of_a_login_session_removes_the_runtime_directory_and_costs_no_request(
    lab: Lab, tmp_path: Path
) -> None:
    runtime = tmp_path / "run"
    environ = {**lab.environ, "THV_LLM_SOCKET": str(runtime / "toolhive" / "llm.sock")}
    runtime.mkdir(mode=0o700)
    where = paths.find(environ)
    one = Service(where, environ, now=time.time, with_proxy=False, watch=nothing, look_every_s=0.02)
    with running(one):
        token = agent_protocol.call(where.socket, "token 60", timeout_s=10)
        shutil.rmtree(runtime)  # which an ordinary user cannot make again
        moved = paths.find(environ).socket
        until(lambda: os.path.exists(moved))
        assert agent_protocol.call(moved, "token 60", timeout_s=10) == token
        runtime.mkdir(mode=0o700)
        until(lambda: os.path.exists(where.socket))
        assert agent_protocol.call(where.socket, "token 60", timeout_s=10) == token
        assert not os.path.exists(moved)
    assert lab.provider.grants.refreshes == 1


def test_the_end_of_the_session_is_logged_a_day_and_an_hour_ahead(lab: Lab) -> None:
    written = io.StringIO()
    log.to(written)
    one = Service(lab.paths, lab.environ, now=time.time, with_proxy=False, watch=nothing, look_every_s=0.02)
    try:
        with running(one):
            lab.ends_in(80_000)
            until(lambda: "ends in 22.2 h" in written.getvalue())
            lab.ends_in(3000)
            until(lambda: "ends in 0.8 h" in written.getvalue())
    finally:
        log.to(None)

    told = [line for line in written.getvalue().splitlines() if "the session ends in" in line]
    assert len(told) == 2
    assert all("thv-llm login --force" in line for line in told)


def test_it_ends_when_its_directory_was_replaced_and_leaves_the_new_ones_files_alone(lab: Lab) -> None:
    one = Service(lab.paths, lab.environ, now=time.time, with_proxy=False, watch=nothing, look_every_s=0.02)
    with running(one) as run:
        theirs = replace(run, pid=run.pid + 1)
        os.unlink(lab.paths.socket)
        Path(lab.paths.socket).touch()
        pid_file.write(lab.paths.pid, theirs)
        thread = next(thread for thread in threading.enumerate() if thread.name.startswith("Thread-"))
        os.unlink(lab.paths.lock("service"))
        Path(lab.paths.lock("service")).touch()
        thread.join(10)

        assert not thread.is_alive()
    assert pid_file.read(lab.paths.pid) == theirs
    assert Path(lab.paths.socket).exists()


def test_new_requests_are_refused_while_a_refresh_is_waited_for(lab: Lab) -> None:
    arrived, release = lab.provider.hold("refresh")
    one = service(lab)
    thread = threading.Thread(target=one.run, args=(nothing,))
    thread.start()
    assert arrived.wait(10)  # by the thread that keeps the token fresh
    before = lab.refresh_token()

    one.stop()
    until(lambda: not background.is_listening(lab.port))
    assert not Path(lab.paths.socket).exists()
    assert Path(lab.paths.pid).exists()
    assert thread.is_alive()
    release.set()
    thread.join(10)

    assert not thread.is_alive()
    assert lab.refresh_token() != before


def test_signals_end_it_once_and_are_given_back(lab: Lab) -> None:
    one = service(lab, with_proxy=False)
    begun: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with service_module.ended_by_signals(one, lambda: begun.append("ending")):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert begun == ["ending"]
    assert signal.getsignal(signal.SIGTERM) is before
    one.run(nothing)  # it was told to stop, so it returns at once


def test_a_service_that_runs_has_imported_all_that_it_can_need() -> None:
    script = (
        "import sys; from thv_llm.service import service; service.load_rest();"
        "before = set(sys.modules);"
        "from thv_llm.store import os_keyring, secret_service; from thv_llm.edit import model;"
        "from thv_llm.net import failures; from thv_llm.oidc import discovery, http, token_endpoint;"
        "from thv_llm.tokens import session;"
        "import jeepney.bus, jeepney.io.blocking, jeepney.wrappers;"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith(('thv_llm', 'jeepney'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_key_is_good_as_soon_as_it_is_made_and_until_its_teardown(lab: Lab) -> None:
    with running(service(lab)):
        assert lab.get("/v1/models", key="thv-aider-unknown")[0] == 401
        assert lab.get("/v1/models", key=lab.key("aider"))[0] == 200
        assert lab.get("/v1/models", key=state.local_key(lab.paths).reveal())[0] == 401
        cline, aider = lab.key("cline"), lab.key("aider")
        assert lab.get("/v1/models", key=cline)[0] == 200

        lab.change(keys={"cline": state.load(lab.paths.state).keys["cline"]})
        background.renew_keys(lab.paths)

        assert lab.get("/v1/models", key=aider)[0] == 401
        assert lab.get("/v1/models", key=cline)[0] == 200


@pytest.mark.parametrize(
    ("tool", "expected"),
    [("copilot-cli", 400), ("vibe", 400), ("nanocoder", 400), ("opencommit", 400), ("opencode", 401)],
)
def test_a_tool_that_hides_a_401_is_told_in_another_way_that_a_login_is_required(
    lab: Lab, tool: str, expected: int
) -> None:
    lab.log_out()
    with running(service(lab)):
        status, body = lab.get("/v1/models", key=lab.key(tool))

    assert status == expected
    assert b"thv-llm login" in body


@pytest.mark.parametrize("ruin", [lambda file: file.write_text("{"), Path.unlink], ids=["damaged", "gone"])
def test_keys_stay_good_while_the_state_file_cannot_tell(lab: Lab, ruin: Callable[[Path], object]) -> None:
    key = lab.key()
    with running(service(lab)):
        assert lab.get("/v1/models", key=key)[0] == 200
        ruin(Path(lab.paths.state))
        background.renew_keys(lab.paths)
        assert lab.get("/v1/models", key=key)[0] == 200
