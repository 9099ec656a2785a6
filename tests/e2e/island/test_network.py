"""What leaves the machine: questions for two names, packets to two addresses. And that this is enough."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.e2e.island import NameServer
from tests.e2e.island.conftest import ADDRESSES
from tests.e2e.island.wire import Wire
from tests.e2e.machine import PYZ, Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER, ask, chat, prompt
from tests.matrix import TOP

pytestmark = pytest.mark.root
"""A network of its own."""

LOOPBACK = {"127.0.0.1", "::1"}
REPORTS = ("status", "doctor", "tools", "config show", "proxy status", "proxy logs", "env", "--version")
CALLS_OUT = """
import contextlib, socket
for host in ("telemetry.example.net", "198.51.100.7", "2001:db8::7"):
    with contextlib.suppress(OSError):
        socket.create_connection((host, 443), 1)
"""


def test_whatever_a_program_looks_for_elsewhere_is_seen(new_machine: NewMachine, names: NameServer) -> None:
    machine = new_machine()

    with Wire() as wire:
        machine.run("python3", "-c", CALLS_OUT)

    assert "telemetry.example.net" in names.lookups
    assert {"198.51.100.7", "2001:db8::7"} <= wire.addresses()


def test_only_provider_and_gateway_are_looked_up_and_talked_to(
    new_machine: NewMachine, names: NameServer, provider: NpmProvider
) -> None:
    machine = new_machine(keyring=True)
    for tool in ("claude", "opencode"):  # real ones look for more
        machine.command(tool, "#!/bin/sh\n")
    names.lookups.clear()

    with Wire() as wire:
        machine.setup()
        assert provider.verify(machine.token())
        assert provider.verify(machine.run(str(machine.helper)).out.strip())
        status, stream = chat(machine, stream=True)
        for report in REPORTS:
            machine.thv(*report.split())
        machine.thv("teardown", "--purge-tokens")

    assert status == 200
    assert all(word in stream for word in ANSWER.split())
    assert not machine.services()
    assert set(names.lookups) == set(ADDRESSES)
    assert wire.addresses() - LOOPBACK == set(ADDRESSES.values())


def typed(mark: str) -> list[str]:
    """Return what the README has a user type in the first example behind a mark."""
    example = (TOP / "README.md").read_text().split(mark, 1)[1].split("```")[1]
    return re.findall(r"^\$ (.+)$", example, re.MULTILINE)


def by_hand(machine: Machine, line: str) -> str:
    """Type a line in the home directory; return what it printed."""
    done = machine.run("sh", "-c", f"cd && {line}", env=prompt("claude-code").env)
    assert done.code == 0, done.said
    return done.out


def test_two_files_and_the_readme_are_enough(new_machine: NewMachine) -> None:
    machine = new_machine("claude", "opencode")
    (machine.commands / "thv-llm").unlink()
    machine.environ["PATH"] = f"{machine.home}/.local/bin:{machine.environ['PATH']}"
    carried = machine.home / "dist"
    carried.mkdir()
    for name in (PYZ.name, f"{PYZ.name}.sha256"):
        shutil.copy(PYZ.with_name(name), carried)

    checked, *_ = [by_hand(machine, line) for line in typed("**Air-gapped:**")]
    setup, question, teardown = typed("<!-- setup -->")
    by_hand(machine, f'{setup} --ca-file "{machine.provider.ca_file}" --proxy-port {machine.port}')
    ask(machine, prompt("opencode"))
    response = by_hand(machine, question)
    by_hand(machine, teardown)

    assert checked == f"{PYZ.name}: OK\n"
    assert response == f"{ANSWER}\n"
    assert not machine.services()
    assert not (machine.home / ".claude" / "settings.json").exists()
