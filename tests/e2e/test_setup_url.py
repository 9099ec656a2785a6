"""`setup URL` with the built file at a terminal: what the gateway publishes, and what is asked without it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.machine import Machine, NewMachine
from tests.e2e.npm_provider import AUDIENCE, NpmProvider
from tests.e2e.test_login import assert_logged_in, running
from tests.fakes.apps_gateway import apps_gateway
from tests.fakes.provider import FakeProvider

PROFILE = "com.stacklok.thv-llm."


@pytest.fixture
def machine(new_machine: NewMachine) -> Machine:
    """A machine with one tool, whose gateway says nothing of itself yet."""
    return new_machine("claude")


def setup(machine: Machine, *more: str) -> list[str]:
    """Return `setup URL` with what the machines of these tests need besides."""
    own = ("--ca-file", machine.provider.ca_file, "--proxy-port", str(machine.port), "--audience", AUDIENCE)
    return ["setup", machine.gateway.url, *own, *more]


def test_the_document_is_shown_and_confirmed_and_a_client_registered(machine: Machine) -> None:
    machine.gateway.publish({"authorization_servers": [machine.provider.issuer]})
    registered = machine.provider.seen()["registrations"]

    with running(machine, *setup(machine), terminal=True) as typed:
        typed.hear(r"a new one, which the issuer gives to any client that asks")
        typed.hear(r"Use these settings\? \[y/N\] ")
        typed.type("y")
        typed.hear(r"Registered the client '[\w-]+' at\s")
        typed.hear(r"Continue\? \[Y/n\] ")
        typed.type("")
        assert typed.end() == 0, typed.said

    assert machine.provider.seen()["registrations"] == registered + 1
    saved = machine.thv("config", "get", "oidc.client_id").out.strip()
    assert saved not in ("", machine.provider.client_id)
    assert_logged_in(machine)
    found = json.loads(machine.thv("doctor", "--format", "json").out)
    assert found["failed"] == 0, found


def test_a_no_registers_and_saves_nothing(machine: Machine) -> None:
    machine.gateway.publish({"authorization_servers": [machine.provider.issuer]})
    registered = machine.provider.seen()["registrations"]

    with running(machine, *setup(machine), terminal=True) as typed:
        typed.hear(r"a new one, which the issuer gives to any client that asks")
        typed.hear(r"Use these settings\? \[y/N\] ")
        typed.type("n")
        assert typed.end() == 1, typed.said

    assert machine.provider.seen()["registrations"] == registered
    assert not (machine.ours / "llm.toml").exists()


def test_a_client_id_in_the_document_needs_no_registration(machine: Machine) -> None:
    issuer = machine.provider.issuer
    machine.gateway.publish({"authorization_servers": [issuer], f"{PROFILE}client_id": "thv-llm"})

    refused = machine.thv(*setup(machine, "--yes"), fails=True)
    assert refused.code == 2, refused.said
    line = re.search(r"if it is right: thv-llm setup \S+ .*?(--issuer \S+ --yes)", refused.err)
    assert line, refused.err
    done = machine.thv(*setup(machine, *line[1].split()))

    assert f"issuer          '{issuer}'" in done.err
    assert_logged_in(machine)


def test_where_nothing_is_published_the_urls_and_the_line_to_type_are_named(machine: Machine) -> None:
    url = machine.gateway.url
    refused = machine.thv(*setup(machine), fails=True)

    assert refused.code == 2, refused.said
    for place in ("oauth-protected-resource: HTTP 404", "oauth-authorization-server: HTTP 404"):
        assert f"{url}/.well-known/{place}" in refused.err, refused.err
    assert re.search(f"next: thv-llm setup {url} .*--issuer URL --client-id ID", refused.err), refused.err
    with running(machine, *setup(machine), terminal=True) as typed:
        typed.hear("URL of the issuer, exactly as its metadata names it: ")
        typed.type(machine.provider.issuer)
        typed.hear("Client id of thv-llm at the issuer: ")
        typed.type(machine.provider.client_id)
        typed.hear(r"Continue\? \[Y/n\] ")
        typed.type("y")
        assert typed.end() == 0, typed.said
    assert_logged_in(machine)


@pytest.fixture
def own_server(provider: NpmProvider) -> Iterator[tuple[Machine, FakeProvider]]:
    """A machine whose gateway is its own authorization server, with a login by code alone."""
    with (
        apps_gateway() as (gateway, server),
        TemporaryDirectory(prefix="e2e ", ignore_cleanup_errors=True) as place,
        Machine(Path(place), provider, gateway, ["claude"]) as made,
    ):
        server.device_interval_s = 1
        yield made, server


def test_a_gateway_that_is_its_own_authorization_server_needs_a_yes_and_a_code(
    own_server: tuple[Machine, FakeProvider],
) -> None:
    machine, server = own_server
    words = [word for word in setup(machine) if word not in ("--audience", AUDIENCE)]
    with running(machine, *words, terminal=True) as typed:
        typed.hear(r"Use these settings\? \[y/N\] ")
        typed.type("y")
        typed.hear(r"Continue\? \[Y/n\] ")
        typed.type("y")
        typed.hear("WDJB-MJHT")
        assert typed.end() == 0, typed.said

    assert machine.token() in server.grants.access_tokens
    claude = json.loads((machine.home / ".claude" / "settings.json").read_text())
    assert claude["env"]["ANTHROPIC_BASE_URL"] == machine.gateway.url
