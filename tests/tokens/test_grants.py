from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.machine import Machine, machine
from tests.fakes import rsa
from tests.fakes.web import Request, ServerResponse, WebServer
from tests.tokens.rig import Rig, rigged
from thv_llm import tokens
from thv_llm.errors import RefusedError, UnreachableError
from thv_llm.tokens import grants

ASSERTION = "workload.assertion.of-tests"
SECRET = "s3cret:of/tests+%"


def jwt(expires_at: float) -> str:
    return rsa.jwt({"alg": "RS256"}, {"exp": expires_at, "aud": "gateway"}, rsa.KEY)


class GitHub(WebServer):
    """What a job asks for its ID token; remembers for which audiences."""

    def __init__(self) -> None:
        self.audiences: list[str] = []
        super().__init__(self._respond, tls=False)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?api-version=2",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
        }

    def _respond(self, request: Request) -> ServerResponse:
        if request.headers.get("authorization") != "Bearer request-token":
            return ServerResponse(401)
        self.audiences.append(request.query["audience"])
        return ServerResponse(body={"value": ASSERTION, "count": 1})


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rigged(tmp_path) as made:
        made.provider.assertions = {ASSERTION}
        yield made


def source(rig: Rig, **oidc: Any) -> tokens.TokenSource:
    rig.settings = rig.settings._replace(oidc=rig.settings.oidc._replace(**oidc))
    return rig.another()


def secret_file(tmp_path: Path, text: str = f"{SECRET}\n") -> str:
    path = tmp_path / "secret"
    path.write_text(text)
    return str(path)


# token-file


def test_a_token_file_is_read_at_each_use_without_a_request_to_the_provider(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(jwt(rig.clock.wall + 3600))
    held = source(rig, grant="token-file", token_file=str(path))
    first = held.get()

    new = tmp_path / "new"
    new.write_text(jwt(rig.clock.wall + 7200))
    new.replace(path)

    assert held.get().value != first.value
    assert held.at_hand() == held.get().value
    assert held.get().expires_at == rig.clock.wall + 7200
    assert not rig.provider.requests


@pytest.mark.posix
def test_a_projected_token_behind_links_is_taken_as_kubernetes_swaps_it(rig: Rig, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(f"opaque-{name}")
    (tmp_path / "..data").symlink_to("a")
    (tmp_path / "token").symlink_to("..data/token")
    held = source(rig, grant="token-file", token_file=str(tmp_path / "token"))
    assert held.get().value.reveal() == "opaque-a"

    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").replace(tmp_path / "..data")

    assert held.get().value.reveal() == "opaque-b"


def huge(path: Path) -> None:
    path.write_text("a" * (64 * 1024 + 1))


def writable(path: Path) -> None:
    path.write_text("token")
    path.chmod(0o666)


def of_another(path: Path) -> None:
    path.write_text("token")
    os.chown(path, 12345, -1)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (huge, "larger than 64 KiB"),
        pytest.param(writable, "other users can write to it", marks=pytest.mark.posix),
        pytest.param(of_another, "belongs to another user", marks=pytest.mark.root),
        pytest.param(getattr(os, "mkfifo", None), "not a regular file", marks=pytest.mark.posix),
        pytest.param(os.mkdir, "not a regular file", marks=pytest.mark.posix),
        (lambda path: path.write_text("two words"), "more than one word"),
        (lambda path: path.write_text("\n"), "it is empty"),
        (lambda _: None, os.strerror(errno.ENOENT) if sys.platform != "win32" else "not found"),
    ],
)
def test_a_file_that_cannot_be_trusted_gives_no_token(
    rig: Rig, tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    make(tmp_path / "token")
    held = source(rig, grant="token-file", token_file=str(tmp_path / "token"))

    with pytest.raises(RefusedError) as caught:
        held.get()

    assert why in caught.value.why
    assert held.at_hand() is None


def test_an_expired_token_in_the_file_is_named_as_such(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(jwt(rig.clock.wall - 60))

    with pytest.raises(UnreachableError, match="expired 60 s ago"):
        source(rig, grant="token-file", token_file=str(tmp_path / "token")).get()


# federated


def test_the_assertion_of_a_file_authenticates_the_client(rig: Rig, tmp_path: Path) -> None:
    file = secret_file(tmp_path, ASSERTION)
    found = source(rig, grant="federated", assertion_file=file, scopes=("openid", "api://x/.default")).get()

    assert rig.provider.verify_access_token(found.value.reveal())
    sent = rig.provider.last("workload").form
    assert sent["client_assertion_type"] == grants.JWT_BEARER
    assert sent["grant_type"] == "client_credentials"
    assert sent["scope"] == "api://x/.default"


def test_the_token_of_gitlab_in_a_variable_is_exchanged(rig: Rig) -> None:
    rig.environ["GITLAB_TOKEN"] = ASSERTION
    held = source(rig, grant="federated", assertion_env="GITLAB_TOKEN", exchange=True, audience="llm")

    claims = rig.provider.verify_access_token(held.get().value.reveal())

    assert claims["aud"] == "llm"
    assert rig.provider.last("workload").form["subject_token_type"] == grants.JWT


@pytest.mark.parametrize(
    ("value", "audience"), [("github:api://Exchange", "api://Exchange"), ("github", "ISSUER")]
)
def test_the_assertion_is_requested_from_github_actions(rig: Rig, value: str, audience: str) -> None:
    with GitHub() as github:
        rig.environ |= github.environ
        found = source(rig, grant="federated", assertion_env=value).get()

        assert rig.provider.verify_access_token(found.value.reveal())
        assert github.audiences == [audience.replace("ISSUER", rig.provider.issuer)]


def test_a_workload_without_its_assertion_is_told_what_is_missing(rig: Rig) -> None:
    with pytest.raises(RefusedError, match="ID token") as caught:
        source(rig, grant="federated", assertion_env="github").get()
    assert "id-token: write" in caught.value.next_step

    with pytest.raises(RefusedError, match="NONE"):
        source(rig, grant="federated", assertion_env="NONE").get()


def test_a_refused_assertion_is_not_shown_and_starts_no_login(rig: Rig, tmp_path: Path) -> None:
    rig.provider.assertions = set()
    held = source(rig, grant="federated", assertion_file=secret_file(tmp_path, ASSERTION), exchange=True)

    with pytest.raises(RefusedError) as caught:
        held.get()

    assert ASSERTION not in str(caught.value)
    assert caught.value.next_step == grants.CHECK


# client-credentials, and the secret of a user's client


@pytest.mark.parametrize("methods", [None, ["client_secret_basic"], ["client_secret_post"]])
def test_a_secret_goes_where_the_provider_wants_it(
    rig: Rig, tmp_path: Path, methods: list[str] | None
) -> None:
    def with_methods(response: ServerResponse) -> ServerResponse:
        return ServerResponse(body={**response.body, "token_endpoint_auth_methods_supported": methods})

    rig.provider.alter["discovery"] = with_methods if methods else lambda response: response
    rig.provider.secret = SECRET
    held = source(rig, grant="client-credentials", client_secret=secret_file(tmp_path))

    assert rig.provider.verify_access_token(held.get().value.reveal())
    is_in_form = "client_secret" in rig.provider.last("workload").form
    assert is_in_form == (methods == ["client_secret_post"])


def test_a_token_of_a_workload_is_kept_in_memory_and_renewed_ahead(rig: Rig, tmp_path: Path) -> None:
    rig.provider.secret = SECRET
    held = source(rig, grant="client-credentials", client_secret=secret_file(tmp_path))
    first = held.get()
    assert held.get() == first

    rig.clock.pass_(3600)

    assert held.get() != first
    assert rig.provider.count("workload") == 2


def test_what_is_required_depends_on_the_identity(rig: Rig) -> None:
    oidc = rig.settings.oidc
    for grant, missing in {
        "user": [],
        "token-file": ["oidc.token_file"],
        "federated": ["oidc.assertion_file or oidc.assertion_env"],
        "client-credentials": ["oidc.client_secret"],
    }.items():
        assert rig.settings._replace(oidc=oidc._replace(grant=grant)).missing() == missing
    bare = oidc._replace(grant="token-file", token_file="/x", issuer="", client_id="")
    assert rig.settings._replace(oidc=bare).missing() == []


# Whole commands


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "home").mkdir()
    with machine(tmp_path / "home") as made:
        yield made


@pytest.mark.posix
def test_a_secret_of_a_users_client_moves_into_the_store_and_goes_with_uninstall(
    here: Machine, tmp_path: Path
) -> None:
    here.provider.secret = SECRET
    file = secret_file(tmp_path)

    done = here.setup("--yes", "--token-store", "file", "--client-secret-file", file)
    Path(file).unlink()

    assert done.code == 0, done.err
    assert 'client_secret = "stored"' in Path(here.paths.settings).read_text()
    assert here.run("token", "--force-refresh").code == 0
    assert here.run("logout").code == 0
    assert "revoked at the provider" in here.run("login").err or here.run("token").code == 0
    texts = [path.read_bytes() for path in here.home.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in text for text in texts)
    assert here.run("uninstall", "--yes").code == 0
    assert not Path(here.paths.directory).exists()


@pytest.mark.posix
def test_a_workload_sets_up_and_gets_tokens_without_browser_or_store(here: Machine, tmp_path: Path) -> None:
    here.provider.secret = SECRET
    file = secret_file(tmp_path)

    done = here.setup("--yes", "--grant", "client-credentials", "--client-secret-file", file)

    assert done.code == 0, done.err
    assert not here.provider.count("authorize")
    printed = here.run("token")
    assert here.provider.verify_access_token(printed.out.strip())
    assert not Path(here.paths.session_file).exists()
    assert file in Path(here.paths.settings).read_text()
    shown = here.run("status")
    assert "a workload (oidc.grant = client-credentials)" in shown.out
    login = here.run("login")
    assert login.code == 0
    assert not here.provider.count("authorize")
    Path(file).unlink()
    assert here.run("login").code == 1


@pytest.mark.posix
def test_a_token_file_needs_no_provider_at_all(here: Machine, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("opaque-token")

    done = here.run(
        *(
            "setup",
            "--yes",
            "--no-service",
            "--gateway-url",
            here.gateway.url,
            "--ca-file",
            here.provider.ca_file,
        ),
        *("--grant", "token-file", "--token-file", str(path), "--proxy-port", str(here.port)),
    )

    assert done.code == 0, done.err
    assert here.run("token").out == "opaque-token\n"
    assert "thv-llm is not configured" not in here.run("status").out
    assert not here.provider.requests
