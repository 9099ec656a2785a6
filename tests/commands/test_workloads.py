"""Workloads: GitHub Actions, GitLab and Kubernetes get a token, and serve a tool with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checks.finding import look, wire
from tests.fakes import rsa
from tests.fakes.web import Request, ServerResponse, WebServer
from tests.service.lab import Lab
from tests.service.test_service import running, service
from thv_llm import cli, settings
from thv_llm.checks import Level, remote
from thv_llm.commands import parser as flags
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.net.http_client import Response

ASSERTION = rsa.jwt({"alg": "RS256"}, {"sub": "workload", "jti": "assertion-of-the-tests"}, rsa.KEY)
REQUEST_TOKEN = "request-token-of-the-tests"


@pytest.fixture
def workload(lab: Lab) -> Lab:
    """A machine without a user's session, whose provider trusts the workload."""
    lab.log_out()
    lab.provider.assertions = {ASSERTION}
    return lab


def knows(lab: Lab, **variables: str) -> None:
    """Give every program of this machine these variables."""
    lab.environ |= variables
    lab.home = replace(lab.home, environ={**lab.home.environ, **variables})


def configured(lab: Lab, *options: str) -> None:
    done = lab.run("config", "set", *options)
    assert done.code is ExitCode.DONE, done.err


def serves(lab: Lab, token_endpoint: str, times: int = 1) -> None:
    """`token` prints a token that the gateway takes, and so does the proxy; no secret is anywhere."""
    done = lab.run("token")
    assert done.code is ExitCode.DONE, done.err
    assert lab.gateway.admits(f"Bearer {done.out.strip()}")
    with running(service(lab)):
        assert lab.get("/v1/models")[0] == 200
    assert lab.provider.count("authorize") == lab.provider.count("refresh") == 0
    assert lab.provider.count(token_endpoint) >= times
    assert not Path(lab.paths.session_file).exists() or lab.refresh_token() is None
    texts = [path.read_bytes() for path in Path(lab.paths.directory).rglob("*") if path.is_file()]
    for secret in (ASSERTION, REQUEST_TOKEN, done.out.strip()):
        assert not any(secret.encode() in text for text in texts)
        assert secret not in done.err


def github(request: Request) -> ServerResponse:
    """Respond as GitHub's token service does."""
    if request.headers.get("authorization") != f"Bearer {REQUEST_TOKEN}":
        return ServerResponse(401)
    audience = request.query.get("audience")
    return ServerResponse(
        body={"value": ASSERTION if audience == "api://AzureADTokenExchange" else "no.such.one"}
    )


@pytest.mark.parametrize("exchange", [(), ("--exchange",)], ids=["client assertion", "token exchange"])
def test_a_job_of_github_actions(workload: Lab, exchange: tuple[str, ...]) -> None:
    with WebServer(github, tls=False) as actions:
        knows(
            workload,
            ACTIONS_ID_TOKEN_REQUEST_URL=f"{actions.url}/token?api-version=2.0",
            ACTIONS_ID_TOKEN_REQUEST_TOKEN=REQUEST_TOKEN,
        )
        audience = "github:api://AzureADTokenExchange"
        configured(workload, "--grant", "federated", "--assertion-env", audience, *exchange)

        serves(workload, "workload", times=2)


def test_a_job_of_gitlab(workload: Lab) -> None:
    knows(workload, LLM_ID_TOKEN=ASSERTION)
    configured(workload, "--grant", "federated", "--assertion-env", "LLM_ID_TOKEN")

    serves(workload, "workload", times=2)


def test_a_pod_of_kubernetes_with_federation(workload: Lab, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(ASSERTION)
    configured(workload, "--grant", "federated", "--assertion-file", str(path))

    serves(workload, "workload", times=2)


def test_a_pod_whose_projected_token_is_replaced_under_way(workload: Lab, tmp_path: Path) -> None:
    claims = {"exp": workload.home.now + 3600, "aud": "gateway"}
    first, second = (rsa.jwt({"alg": "RS256"}, {**claims, "jti": name}, rsa.KEY) for name in "ab")

    def check(token: str) -> None:
        if token not in (first, second):
            raise ValueError("another one")

    workload.gateway.check = check
    for name, token in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(token)
    (tmp_path / "..data").symlink_to("a")
    (tmp_path / "token").symlink_to("..data/token")
    configured(workload, "--grant", "token-file", "--token-file", str(tmp_path / "token"))

    assert workload.run("token").out.strip() == first
    with running(service(workload)):
        assert workload.get("/v1/models")[0] == 200
        (tmp_path / "next").symlink_to("b")
        (tmp_path / "next").replace(tmp_path / "..data")
        assert workload.get("/v1/models")[0] == 200
        assert workload.run("token").out.strip() == second

    sent = [one.header("authorization") for one in workload.gateway.served("/v1/models")]
    assert sent == [f"Bearer {first}", f"Bearer {second}"]
    assert not workload.provider.requests


def huge(path: Path) -> None:
    path.write_text("a" * (64 * 1024 + 1))


def of_another_user(path: Path) -> None:
    path.write_text(ASSERTION)
    os.chown(path, 12345, -1)


def open_to_others(path: Path) -> None:
    path.write_text(ASSERTION)
    path.chmod(0o662)


def two_words(path: Path) -> None:
    path.write_text("a b")


def pipe(path: Path) -> None:
    os.mkfifo(path)


BAD_FILES: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "huge": (huge, "larger than 64 KiB"),
    "open to others": (open_to_others, "other users can write"),
    "a pipe": (pipe, "not a regular file"),
    "a directory": (Path.mkdir, "not a regular file"),
    "empty": (Path.touch, "it is empty"),
    "not there": (lambda _: None, "No such file"),
    "two words": (two_words, "more than one word"),
}


def refuses(lab: Lab, path: Path, why: str) -> None:
    for options in (("--grant", "token-file", "--token-file"), ("--grant", "federated", "--assertion-file")):
        configured(lab, *options, str(path))
        with pytest.raises(ThvLlmError) as caught:
            lab.run("token")
        assert why in str(caught.value)
        assert str(path) in str(caught.value)
        assert ASSERTION not in str(caught.value)
        with running(service(lab)):
            status, body = lab.get("/v1/models")
        assert status == 401
        assert why in body.decode()


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_trusted_is_named(workload: Lab, tmp_path: Path, name: str) -> None:
    make, why = BAD_FILES[name]
    path = tmp_path / "workload"
    make(path)

    refuses(workload, path, why)


@pytest.mark.root
def test_a_file_of_another_user_is_refused(workload: Lab, tmp_path: Path) -> None:
    path = tmp_path / "workload"
    of_another_user(path)

    refuses(workload, path, "belongs to another user")


def test_of_a_token_in_a_file_only_what_was_seen_is_said(workload: Lab, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("an-opaque-token")
    workload.gateway.check = lambda _: None
    wire(workload, "claude-code")
    configured(workload, "--grant", "token-file", "--token-file", str(path))
    with running(service(workload)):
        status = workload.run("status").out
        checks = {one.name: one for one in look(workload)}

    assert f"          tokens from {path}\n" in status
    assert "provider" not in status
    assert "access token expires" not in status
    assert checks["token"].level is Level.OK
    assert checks["token"].reason == "expiry unknown, opaque; its file is read at each use"
    assert workload.run("logout").err == (
        "Not logged in: a workload's tokens need no login (oidc.grant = token-file).\n"
    )


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--grant", "token-file"), "have such a one written to FILE"),
        (("--grant", "federated", "--assertion-env", "X"), "thv-llm setup --audience NAME"),
        (("--gateway-token", "id_token"), "thv-llm setup --audience NAME, or --gateway-token access_token"),
        ((), "thv-llm setup --audience NAME, or --gateway-token id_token"),
    ],
)
def test_what_makes_the_gateway_accept_a_token_depends_on_whose_it_is(
    options: tuple[str, ...], remedy: str
) -> None:
    args = cli.build_parser("setup").parse_args(["setup", *options])
    given = flags.given(flags.typed(args), None)
    wanted = settings.overlaid(settings.Settings(), {**given, "oidc.token_file": "/run/token"})

    found = Response("llm.example.com", 401, {})
    check = remote._not_accepted("https://llm.example.com", found, 401, wanted.oidc, is_gateway=True)

    assert check.next_step.endswith(f" it expects; then: {remedy.replace('FILE', '/run/token')}")
