from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.gateway import Received
from tests.fakes.web import ServerResponse
from tests.proxy.running import Client
from tests.service.lab import Lab, impatience, patience_s, until
from thv_llm import agent_client, paths, state
from thv_llm.errors import ExitCode, NotConfiguredError, ThvLlmError
from thv_llm.service import agent_protocol, background, helper, pid_file
from thv_llm.system import processes


def test_a_started_service_passes_the_challenge_on_socket_and_port(lab: Lab) -> None:
    running = lab.start()

    assert running.responds
    assert running.record.port == lab.port
    assert lab.processes() == [running.record.pid]
    assert background.port_use(lab.paths, lab.port).kind == "ours"
    assert lab.get("/v1/models")[0] == 200
    token = agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10).split()[1]
    assert lab.provider.verify_access_token(token)


def test_the_service_is_detached_from_who_started_it(lab: Lab) -> None:
    pid = lab.start().record.pid

    assert os.getsid(pid) == pid != os.getsid(0)
    assert f"\nPPid:\t{os.getpid()}\n" not in Path(f"/proc/{pid}/status").read_text()


def test_the_service_writes_no_core_and_refuses_debuggers(lab: Lab) -> None:
    pid = lab.start().record.pid
    limits = Path(f"/proc/{pid}/limits").read_text()

    assert next(line for line in limits.splitlines() if "core" in line).split()[4:6] == ["0", "0"]


def start_limited(lab: Lab, soft: int, hard: int) -> None:
    lab.want()
    limits = f'ulimit -S -n {soft}; ulimit -H -n {hard}; exec "$@"'
    command = ["/bin/sh", "-c", limits, "sh", *paths.own_command("proxy", "start", "--background")]
    subprocess.run(command, env=lab.environ, check=True, capture_output=True)


def test_two_hundred_streams_do_not_wait_for_a_low_limit_of_descriptors(lab: Lab) -> None:
    release = threading.Event()

    def fault(_: Received) -> None:
        release.wait(30)

    lab.gateway.fault = fault
    start_limited(lab, 256, 4096)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(lab.get("/v1/models")[0])) for _ in range(200)]

    for thread in threads:
        thread.start()
    until(lambda: len(lab.gateway.requests) == 200)
    release.set()
    for thread in threads:
        thread.join()

    assert codes == [200] * 200


def test_a_crowd_at_the_port_in_the_first_moment_does_not_end_it(lab: Lab) -> None:
    is_over = threading.Event()
    held: list[socket.socket] = []

    def crowd() -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", lab.port), 1))
            time.sleep(0.0005)
            if len(held) > 300:
                held.pop(0).close()

    thread = threading.Thread(target=crowd)
    thread.start()
    try:
        start_limited(lab, 64, 128)
        lab.until_it_has_a_token()
    finally:
        is_over.set()
        thread.join()
        for sock in held:
            sock.close()

    assert background.find(lab.paths)
    until(lambda: lab.get("/v1/models")[0] == 200)


def test_without_a_proxy_tool_only_the_agent_runs(lab: Lab) -> None:
    running = lab.start(proxy=False)

    assert running.record.port is None
    assert background.port_use(lab.paths, lab.port).kind == "free"
    assert agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10)


def test_it_starts_for_a_caller_without_standard_streams(lab: Lab) -> None:
    lab.want()
    command = paths.own_command("proxy", "start", "--background")
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- >&-', "sh", *command],
        env=lab.environ,
        stderr=subprocess.PIPE,
        check=False,
    )

    assert done.stderr.startswith(b"Started the service (pid "), done
    assert done.returncode == 0


def test_starting_it_twice_gives_the_same_one(lab: Lab) -> None:
    first = lab.start()

    assert background.start(lab.paths, lab.environ) == (first, False)


def test_many_who_start_it_at_once_get_one_service(lab: Lab) -> None:
    lab.want()
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(background.start(lab.paths, lab.environ)[0].record.pid))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert len(set(found)) == 1
    until(lambda: lab.processes() == found[:1])


def test_the_reason_why_it_cannot_start_is_told(lab: Lab) -> None:
    Path(lab.paths.settings).write_text("")

    with pytest.raises(NotConfiguredError, match="not configured"):
        background.start(lab.paths, lab.environ)
    assert "not configured" in lab.log()


def test_a_system_that_refuses_is_told_in_its_words(lab: Lab) -> None:
    os.mkdir(lab.paths.log)

    with pytest.raises(ThvLlmError) as caught:
        lab.start()
    assert caught.value.why == "Is a directory"


def test_stop_ends_it_and_leaves_nothing_behind(lab: Lab) -> None:
    lab.start()

    assert background.stop(lab.paths)
    assert lab.processes() == []
    assert not Path(lab.paths.pid).exists()
    assert not Path(lab.paths.socket).exists()
    assert background.find(lab.paths) is None
    assert not background.stop(lab.paths)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_it_ends_in_order_on_a_signal(lab: Lab, name: str) -> None:
    process = lab.start().record.process()
    assert process is not None
    processes.send(process, signal.Signals[name])

    until(lambda: lab.log().rstrip().endswith("stopped"))
    assert lab.processes() == []
    assert not Path(lab.paths.pid).exists()


def test_a_running_stream_may_end_before_it_stops(lab: Lab) -> None:
    lab.gateway.gap_s = 0.3
    lab.start()
    responses: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: responses.append(_stream(lab)))
    asking.start()
    until(lambda: lab.gateway.served("/v1/chat/completions"))
    background.stop(lab.paths)
    asking.join()

    assert responses[0][0] == 200
    assert b"[DONE]" in responses[0][1]


def _stream(lab: Lab) -> tuple[int, bytes]:
    import http.client
    import json

    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=20)
    body = {"model": "m-1", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    key = lab.key()
    connection.request(
        "POST",
        "/v1/chat/completions",
        json.dumps(body),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def test_a_second_stop_does_not_cut_off_the_refresh_that_the_first_one_waits_for(lab: Lab) -> None:
    arrived, release = lab.provider.hold("refresh")
    before = lab.refresh_token()
    process = lab.start().record.process()
    assert process is not None
    assert arrived.wait(10)
    processes.send(process, signal.SIGTERM)
    until(lambda: not Path(lab.paths.socket).exists())

    with impatience():
        stopping = threading.Thread(target=background.stop, args=(lab.paths,))
        stopping.start()
        stopping.join(2 * background.HUNG_TIMEOUT_S)
        assert stopping.is_alive()
        release.set()
        stopping.join()

    assert lab.processes() == []
    assert lab.refresh_token() != before


def test_who_stops_a_service_that_is_at_a_refresh_is_told_what_he_waits_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, release = lab.provider.hold("refresh")
    monkeypatch.setattr(background, "DRAIN_S", -0.8)
    lab.start()
    assert arrived.wait(10)

    assert background.stop(lab.paths, waiting=release.set)
    assert release.is_set()


def test_a_service_that_hangs_is_found_by_its_process_and_ended(lab: Lab) -> None:
    pid = lab.hang()

    with impatience():
        with pytest.raises(ThvLlmError, match="does not respond") as caught:
            background.start(lab.paths, lab.environ)
        assert f"process {pid} " in caught.value.why
        assert background.stop(lab.paths)
    until(lambda: not lab.processes())  # a busy system takes its time to end what was killed


@pytest.mark.parametrize("program", ["helper", "token"])
def test_a_service_that_hangs_costs_a_token_at_most_five_seconds(lab: Lab, program: str) -> None:
    lab.hang()
    command = [lab.paths.helper] if program == "helper" else paths.own_command("token")

    began = time.monotonic()
    done = subprocess.run(command, env=lab.environ, capture_output=True, text=True, check=False, timeout=30)

    assert time.monotonic() - began < 5.0
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr == (
        "thv-llm: error: cannot get an access token\n"
        "  why:  the background service does not respond\n  next: thv-llm proxy restart\n"
    )


@pytest.mark.parametrize("program", ["helper", "token"])
def test_a_refresh_may_take_longer_than_that(lab: Lab, program: str) -> None:
    arrived, release = lab.provider.hold("refresh")
    lab.start(proxy=False)
    assert arrived.wait(10)
    command = [lab.paths.helper] if program == "helper" else paths.own_command("token")
    timer = threading.Timer(agent_client.PROBE_AFTER_S + agent_client.PROBE_S + 1.0, release.set)
    timer.start()

    done = subprocess.run(command, env=lab.environ, capture_output=True, text=True, check=False, timeout=30)
    timer.join()

    assert (done.stderr, done.returncode) == ("", 0)
    assert lab.provider.grants.refreshes == 1


# Files that lie


def foreign_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "input()", "thv-llm", "proxy", "start"], stdin=subprocess.PIPE
    )


@pytest.mark.parametrize("start", ["", "some other time"])
def test_a_stale_pid_file_with_a_living_foreign_pid_sends_no_signal(lab: Lab, start: str) -> None:
    foreign = foreign_process()
    try:
        own = pid_file.of_this_process(lab.paths, port=lab.port, now=time.time())
        pid_file.write(lab.paths.pid, replace(own, pid=foreign.pid, start=start))

        assert background.find(lab.paths) is None
        assert not background.stop(lab.paths)
        assert foreign.poll() is None
        assert not Path(lab.paths.pid).exists()
    finally:
        foreign.kill()
        foreign.communicate()


def test_a_process_that_was_started_as_something_else_is_not_ours(lab: Lab) -> None:
    me = pid_file.of_this_process(lab.paths, port=lab.port, now=time.time())
    pid_file.write(lab.paths.pid, me)  # right id, right start, but this is a test

    assert background.find(lab.paths) is None


@pytest.mark.parametrize("pid", [1, -1, 0])
def test_a_pid_file_cannot_aim_a_signal_at_the_system(lab: Lab, pid: int) -> None:
    me = pid_file.of_this_process(lab.paths, port=lab.port, now=time.time())
    pid_file.write(lab.paths.pid, replace(me, pid=pid))

    assert not background.stop(lab.paths)


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"pid": "1"}', "123"])
def test_a_pid_file_that_makes_no_sense_is_no_service(lab: Lab, text: str) -> None:
    Path(lab.paths.pid).write_text(text)

    assert background.find(lab.paths) is None


def test_a_lost_pid_file_does_not_hide_a_running_service(lab: Lab) -> None:
    running = lab.start()
    os.unlink(lab.paths.pid)

    assert background.find(lab.paths) == running
    assert background.stop(lab.paths)
    assert lab.processes() == []


# What setup and teardown ask for


def test_match_starts_narrows_and_stops(lab: Lab) -> None:
    lab.want(proxy=True)
    assert background.match(lab.paths, lab.environ).startswith("Started the service (pid ")
    assert background.match(lab.paths, lab.environ) == ""
    lab.want(proxy=False)
    assert background.match(lab.paths, lab.environ).startswith("Restarted the service")
    found = background.find(lab.paths)
    assert found is not None
    assert found.record.port is None
    lab.want(wanted=False)
    assert background.match(lab.paths, lab.environ) == "Stopped the service."
    assert background.match(lab.paths, lab.environ) == ""


def test_match_takes_changed_settings_and_a_replaced_program_into_account(lab: Lab) -> None:
    first = lab.start()
    lab.home.configure(
        gateway_url=lab.gateway.url,
        oidc__issuer=lab.provider.issuer,
        oidc__client_id="cli",
        oidc__audience="x",
    )

    assert background.reasons_to_restart(lab.paths, first.record) == ["the settings changed since it started"]
    assert background.match(lab.paths, lab.environ).startswith("Restarted")
    older = replace(first.record, stamp="1:2", settings=pid_file.fingerprint(lab.paths))
    assert "was replaced" in background.reasons_to_restart(lab.paths, older)[0]


# Sessions


def test_it_runs_without_a_session_and_picks_up_a_login_of_another_process(lab: Lab) -> None:
    lab.log_out()
    lab.start()

    status, body = lab.get("/v1/models")
    assert status == 401
    assert b"thv-llm login" in body
    lab.log_in()
    assert lab.get("/v1/models")[0] == 200


def test_twenty_tools_whose_session_has_ended_cost_one_request_and_fail_within_a_second(lab: Lab) -> None:
    asked: list[float] = []

    def ended(_: ServerResponse) -> ServerResponse:
        asked.append(time.monotonic())
        return ServerResponse(status=400, body={"error": "invalid_grant"})

    def seconds(tool: Callable[[], None]) -> float:
        began = time.monotonic()
        tool()
        return time.monotonic() - began

    def proxy_tool() -> None:
        status, body = lab.get("/v1/models")
        assert (status, b"thv-llm login" in body) == (401, True)

    def direct_tool() -> None:
        done = subprocess.run([lab.paths.helper], env=lab.environ, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (ExitCode.LOGIN_REQUIRED, b"")

    lab.start()
    lab.until_it_has_a_token()
    lab.gateway.check = lambda _: (_ for _ in ()).throw(ValueError("revoked"))
    lab.provider.alter["refresh"] = ended
    with ThreadPoolExecutor(20) as crowd:
        for tool in (proxy_tool, direct_tool, proxy_tool):
            assert max(crowd.map(seconds, [tool] * 20)) < patience_s(20)

    assert len(asked) == 1


def test_after_a_logout_it_forgets_and_refuses(lab: Lab) -> None:
    lab.start()
    assert lab.get("/v1/models")[0] == 200
    lab.log_out()
    agent_protocol.call(lab.paths.socket, "forget", timeout_s=2)

    until(lambda: lab.get("/v1/models")[0] == 401, seconds=2)


# Reboot


def test_after_a_reboot_the_next_cold_token_brings_it_back(lab: Lab) -> None:
    before = lab.start()
    lab.until_it_has_a_token()
    lab.kill()
    os.unlink(lab.paths.socket)
    assert background.find(lab.paths) is None

    background.ensure(lab.paths, state.load(lab.paths.state), lab.environ)
    after = background.wait(lab.paths)

    assert after.record.pid != before.record.pid
    assert lab.get("/v1/models")[0] == 200


def test_after_a_reboot_the_next_call_of_the_helper_works_and_brings_it_back(lab: Lab) -> None:
    helper.write(lab.paths)
    lab.start()
    lab.until_it_has_a_token()
    lab.kill()
    os.unlink(lab.paths.socket)

    done = subprocess.run(
        [lab.paths.helper], capture_output=True, text=True, timeout=30, check=True, env=lab.environ
    )

    assert lab.provider.verify_access_token(done.stdout.strip())
    assert background.wait(lab.paths).record.port == lab.port
    assert lab.get("/v1/models")[0] == 200


def test_a_killed_service_leaves_a_socket_that_does_not_stop_the_next_one(lab: Lab) -> None:
    lab.start()
    lab.kill()
    assert Path(lab.paths.socket).exists()

    assert lab.start().responds


def test_no_secret_is_in_pid_file_log_or_command_line(lab: Lab) -> None:
    pid = lab.start().record.pid
    lab.get("/v1/models")
    lab.get("/v1/models?key=canary-query", key="canary-wrong-key")
    token = agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10).split()[1]
    secrets = [token, lab.key(), "canary-query", "canary-wrong-key"]
    lab.until_counted(2)
    seen = lab.log() + Path(lab.paths.pid).read_text() + Path(f"/proc/{pid}/cmdline").read_text()

    assert "GET  /v1/models" in lab.log()
    assert [secret for secret in secrets if secret in seen] == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_200_streams_are_served_where_256_descriptors_are_the_limit(lab: Lab) -> None:
    """As many desktops have it; 82 of 200 got a 502."""
    import resource

    lab.gateway.gap_s = 0.2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        lab.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    body = b'{"model": "m-1", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{lab.port}\r\nx-api-key: {lab.key()}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(lab.port)) for _ in range(200)]
        for client in clients:
            client.sock.settimeout(60)
            client.send(head.encode() + body)
        responses = [client.everything() for client in clients]

    assert [response[:15] for response in responses if b"[DONE]" not in response] == []
