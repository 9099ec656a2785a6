"""Login, refresh, rotation and logout at three providers that companies run, and what each of them does.

The figures of `BEHAVIOR` are in the manual (`thv-llm help providers`).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import canaries
from tests.e2e import real_providers
from tests.e2e.machine import Machine
from tests.e2e.prompts import ANSWER
from tests.e2e.real_providers import BEHAVIOR, Behavior, RealProvider
from tests.fakes.gateway import FakeGateway
from thv_llm import paths, settings
from thv_llm.store.encrypted_file import EncryptedFile

COLD = 10


@pytest.fixture(params=BEHAVIOR)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with a session at one of them."""
    with TemporaryDirectory(prefix="real ") as place, TemporaryDirectory(prefix="e2e ") as home:
        with (
            real_providers.ALL[request.param](Path(place)) as provider,
            FakeGateway(provider.verify, text=ANSWER) as gateway,
            Machine(Path(home), provider, gateway) as made,  # type: ignore[arg-type]
        ):
            made.command("browser", real_providers.browser_command(provider))
            made.thv("config", "set", *made.connection(), "--callback-port", str(provider.port))
            made.thv("login")
            yield made


def behavior(request: pytest.FixtureRequest) -> Behavior:
    return BEHAVIOR[request.node.callspec.params["machine"]]


def refresh_token(machine: Machine) -> str:
    where = paths.find(machine.environ)
    found = EncryptedFile(where.session_file, where.session_file_key).load(
        settings.load(where.settings).session_id
    )
    assert found
    canaries.note("rt", found.reveal())
    return found.reveal()


def cold_tokens(machine: Machine, *, alone: bool) -> list[str]:
    """Run `token` in several processes at once, without a service; return what they print.

    Args:
        alone: they get nothing from each other, so that each refreshes.
    """
    runtime = machine.environ["XDG_RUNTIME_DIR"]
    started = [
        subprocess.Popen(
            ["thv-llm", "token"],
            executable=str(machine.commands / "thv-llm"),
            env={**machine.environ, "THV_LLM_SOCKET": f"{runtime}/{number if alone else 'shared'}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(COLD)
    ]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * COLD, outputs
    assert {err for _, err in outputs} == {""}
    return [out.strip() for out, _ in outputs]


def is_good(provider: RealProvider, token: str) -> bool:
    try:
        return bool(provider.verify(token))
    except ValueError:
        return False


def test_login_refresh_rotation_reuse_and_logout(machine: Machine, request: pytest.FixtureRequest) -> None:
    wanted = behavior(request)
    provider = machine.provider
    assert isinstance(provider, RealProvider)
    first = machine.token()
    provider.verify(first)

    before = refresh_token(machine)
    second = machine.thv("token", "--force-refresh").out.strip()
    provider.verify(second)
    assert second != first
    after = refresh_token(machine)
    assert (after != before) == wanted.rotates

    (shared,) = set(cold_tokens(machine, alone=False))
    provider.verify(shared)
    alone = cold_tokens(machine, alone=True)
    assert len(set(alone)) == COLD
    assert sum(is_good(provider, token) for token in alone) == (1 if wanted.ends_access else COLD)

    old = after
    assert (refresh_token(machine) != old) == wanted.rotates
    assert provider.spend(old) == wanted.reuse
    found = machine.thv("token", "--force-refresh", fails=True)
    assert (found.code == 4) == wanted.ends_session, found.said
    if wanted.ends_session:
        assert "thv-llm login" in found.err
        machine.thv("login")
        provider.verify(machine.token())

    last = refresh_token(machine)
    said = machine.thv("logout").err
    assert wanted.revocation in said
    time.sleep(1.1)  # Canaille's tokens of one second are the same, and it fails at the second one
    assert (provider.spend(last) == 200) == ("was revoked" not in wanted.revocation)
    assert machine.thv("token", fails=True).code == 4
