"""The table of states: what can be wrong, what each command then says, and what helps.

Data: `plant` makes a state for real, `said` holds a part of what each command prints, `remedy` is a
part of a printed next step. `page()` is the table for the manual.
"""

from __future__ import annotations

import ctypes
import datetime
import functools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.commands import homes
from tests.fakes.cable import Cable
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.gateway import Fault, Received
from tests.fakes.secret_service import FakeSecretService
from tests.fakes.web import CA_FILE, ServerResponse, server_context
from tests.oidc.test_bad_tls import Authority, Leaf, World
from tests.service.lab import until
from tests.states.site import Site
from thv_llm import state
from thv_llm.oidc import login
from thv_llm.service import helper
from thv_llm.system import processes

Step = Callable[[Site], object]
TOP = Path(__file__).resolve().parents[2]
HANGS_S = 300.0
NEW_MOUNTS = 0x20000
"""CLONE_NEWNS of Linux."""


@dataclass(frozen=True)
class Row:
    """One state.

    Attributes:
        area: what it is about: a heading of the page.
        said: by `token`, `status` and `doctor`, in that order; `tool` is what a tool on the proxy gets.
        remedy: a command, or the words that say who or what helps.
        others: what happens elsewhere before the command is typed: an administrator, a network.
        values: the user's values for the words in capitals of the remedy.
        needs_root: only root can make it so.
    """

    area: str
    title: str
    plant: Step
    said: Mapping[str, str]
    remedy: str
    others: Step | None = None
    values: Callable[[Site], Mapping[str, str]] = field(default=lambda _: {})
    needs_root: bool = False


def json_error(
    code: str,
    text: str,
    until_login_with: tuple[str, str] = ("", ""),
    *,
    status: int = 400,
    more: Mapping[str, str] = {},
) -> Step:
    """Have refreshes fail with this error, until a login with a certain parameter."""

    def plant(here: Site) -> None:
        provider, name = here.machine.provider, until_login_with[0]
        logins = provider.count("authorize")

        def response(good: ServerResponse) -> ServerResponse:
            has_new = provider.count("authorize") > logins
            is_right = has_new and (
                not name or until_login_with[1] in provider.last("authorize").fields[name]
            )
            return (
                good
                if is_right
                else ServerResponse(status, {"error": code, "error_description": text, **more})
            )

        here.alter("refresh", response)

    return plant


def ended(title: str, said: str, meaning: str, *, status: int = 400) -> Row:
    """Return the state of a session that a provider has ended, in its own words."""
    return Row(
        "The provider",
        title,
        json_error("invalid_grant", said, status=status),
        {
            "token": f"the stored session has ended (invalid_grant): '{said}' ({meaning})",
            "status": "the stored session has ended",
            "doctor": "not logged in",
            "tool": "Next: thv-llm login",
        },
        "thv-llm login",
    )


def interaction(title: str, code: str, said: str, meaning: str, status: int = 400, **more: str) -> Row:
    """Return the state in which a provider wants its user to come."""
    return Row(
        "The provider",
        title,
        json_error(code, said, status=status, more=more),
        {
            "token": meaning,
            "status": "log in again",
            "doctor": meaning,
            "tool": "Next: thv-llm login",
        },
        "thv-llm login",
    )


def refresh_fails(status: int, body: object, **headers: str) -> Step:
    return lambda here: here.failing("refresh", status, body, **headers)


def hangs(here: Site) -> None:
    """Have the provider accept requests, and never respond."""
    provider = here.machine.provider

    def wait(good: ServerResponse) -> ServerResponse:
        provider.stopping.wait(HANGS_S)
        return good

    here.alter("refresh", wait)
    provider.alter["discovery"] = wait


def gateway_hangs(here: Site) -> None:
    def wait(_: Received) -> None:
        here.machine.gateway.stopping.wait(HANGS_S)

    here.machine.gateway.fault = wait


def recovers(here: Site) -> None:
    here.machine.provider.alter.clear()
    here.machine.gateway.fault = lambda _: None


def skewed(seconds: float) -> Step:
    def later(good: ServerResponse) -> ServerResponse:
        return ServerResponse(
            good.status, good.body, {"Date": formatdate(time.time() + seconds, usegmt=True)}
        )

    return lambda here: here.alter("discovery", later)


def wrong_year(years: int) -> Step:
    """Have all around be as it is to a clock that is off by that: certificates, dates, what was recorded."""

    def plant(here: Site) -> None:
        shift = datetime.timedelta(days=-365 * years)
        key = serialization.load_pem_private_key(Path(CA_FILE).with_name("ca.key").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        world = World(here.machine.home, Authority("thv-llm test CA", key=key))
        begins = datetime.datetime.now(datetime.UTC) + shift
        show(here, world.context(Leaf(begins=begins, ends=begins + datetime.timedelta(days=30))))
        latest = state.load(here.machine.paths.state).sessions.latest
        moved = latest._replace(logged_in_at=time.time() + shift.total_seconds())
        state.update_sessions(here.machine.paths, lambda known: known._replace(latest=moved))
        here.forget()

    return plant


def show(here: Site, context: ssl.SSLContext) -> None:
    """Have provider and gateway show another certificate."""
    for server in (here.machine.provider, here.machine.gateway):
        server._context = context


def revoked(here: Site) -> None:
    here.machine.provider.grants._live.clear()
    here.forget()


def about_to_end(here: Site) -> None:
    def short(good: ServerResponse) -> ServerResponse:
        return ServerResponse(good.status, {**good.body, "refresh_expires_in": 1800})

    here.machine.provider.alter["token"] = short
    here.run("login", "--force")
    recovers(here)


def no_refresh_token(here: Site) -> None:
    def without(good: ServerResponse) -> ServerResponse:
        return ServerResponse(
            good.status, {name: good.body[name] for name in good.body if name != "refresh_token"}
        )

    here.machine.provider.alter["token"] = without
    here.run("login", "--force")


def no_id_token_on_refresh(here: Site) -> None:
    here.machine.gateway.check = lambda token: None
    here.run("setup", "--gateway-token", "id_token", "--yes")
    here.forget()


def secret_file(text: str) -> Callable[[Site], Mapping[str, str]]:
    def values(here: Site) -> Mapping[str, str]:
        path = here.machine.home / "secret"
        path.write_text(text)
        path.chmod(0o600)
        return {"FILE": str(path)}

    return values


def secret_missing(here: Site) -> None:
    here.machine.provider.grants.rotates = False
    here.machine.provider.secret = "secret-of-the-client"
    here.forget()


def secret_changed(here: Site) -> None:
    here.machine.provider.secret = "secret-of-last-year"
    here.type("thv-llm setup --yes --client-secret-file FILE", secret_file("secret-of-last-year")(here))
    secret_missing(here)


def fixed_port_in_use(here: Site) -> None:
    here.run("logout")
    taken = here.closing.enter_context(socket.create_server(("127.0.0.1", homes.free_port())))
    here.run("config", "set", "--callback-port", str(taken.getsockname()[1]))


def not_registered(here: Site) -> None:
    here.run("logout")
    here.machine.provider.is_registered = lambda _: False
    hurried = functools.partial(login.login, hint_s=0.1, timeout_s=3)
    here.closing.enter_context(mock.patch.object(login, "login", hurried))


def registered(here: Site) -> None:
    here.machine.provider.is_registered = lambda _: True
    here.run("login")


def revocation_refused(here: Site) -> None:
    refused = ServerResponse(401, {"error": "invalid_client"})
    here.machine.provider.alter["revoke"] = lambda _: refused


def lazily(here: Site) -> None:
    """Set up without a login, at a gateway that serves each API below another path, and says nothing."""
    here.machine.gateway.authenticates_first = True
    here.machine.gateway.anthropic_paths, here.machine.gateway.openai_paths = ("/anthropic",), ("/openai",)
    here.run("teardown")
    here.run("config", "reset")
    here.setup("--lazy")


def without_openai(here: Site) -> None:
    here.machine.gateway.openai_paths = ()


def openai_elsewhere(here: Site) -> None:
    here.machine.gateway.openai_paths = ("/llm",)


PUBLISHED = {"com.stacklok.thv-llm.client_id": "thv-llm"}


def published_anew(here: Site) -> None:
    issuer, gateway = here.machine.provider.issuer, here.machine.gateway
    gateway.publish({"authorization_servers": [issuer], **PUBLISHED})
    here.type("thv-llm setup URL", {"URL": gateway.url})
    gateway.publish(
        {"authorization_servers": [issuer], **PUBLISHED, "com.stacklok.thv-llm.audience": "team-llm"}
    )


def login_after_recovery(here: Site) -> None:
    recovers(here)
    here.run("login", "--force")


def rewritten_tool(here: Site) -> None:
    here.machine.opencode.write_text("{}")
    here.setup("--client", "opencode")


def another_issuer(here: Site) -> None:
    here.alter(
        "discovery", lambda good: ServerResponse(200, {**good.body, "issuer": "https://other.example"})
    )


def locked_keyring(here: Site) -> None:
    here.run("logout")
    directory = here.machine.home / "bus"
    directory.mkdir()
    here.keyring = here.closing.enter_context(FakeSecretService(directory, unlocks=False))
    here.environ.update(here.keyring.environ)
    here.run("login")
    here.keyring.locked = True
    here.run("proxy", "restart")


def short_tokens(here: Site) -> None:
    here.machine.provider.access_lifetime_s = 100
    here.forget()


def long_tokens(here: Site) -> None:
    here.machine.provider.access_lifetime_s = 3600
    here.forget()


def wants_audience(here: Site) -> None:
    provider = here.machine.provider

    def check(token: str) -> None:
        if provider.verify_access_token(token)["aud"] != "llm":
            raise ValueError("another audience")

    here.machine.gateway.check = check


def gateway_returns(status: int, **headers: str) -> Step:
    def plant(here: Site) -> None:
        here.machine.gateway.fault = lambda _: Fault(status, headers)

    return plant


def pulled(name: str) -> Step:
    def plant(here: Site) -> None:
        getattr(here, name).pull()
        here.forget()

    return plant


def with_proxy(url: Callable[[Site], str]) -> Step:
    def plant(here: Site) -> None:
        here.environ["HTTPS_PROXY"] = url(here)
        here.run("setup", "--lazy", "--yes")
        here.forget()

    return plant


def without_proxy(here: Site) -> None:
    del here.environ["HTTPS_PROXY"]


def dead_proxy(_: Site) -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://user:pw@127.0.0.1:{closed.getsockname()[1]}"


def opened(proxy: ConnectProxy, here: Site) -> ConnectProxy:
    return here.closing.enter_context(proxy)


def password_proxy(here: Site) -> None:
    here.environ["HTTPS_PROXY"] = opened(ConnectProxy("user", "pw"), here).url


def saved(*words: str) -> Step:
    """Change a setting, and restart the service, as a user by hand."""

    def plant(here: Site) -> None:
        here.run("config", "set", *words)
        here.run("proxy", "restart")
        here.forget()

    return plant


def another_gateway(here: Site) -> None:
    cable = here.closing.enter_context(Cable(here.machine.gateway.port))
    saved("--gateway-url", f"https://127.0.0.1:{cable.port}")(here)


def another_port(here: Site) -> None:
    saved("--proxy-port", str(homes.free_port()))(here)


def own_etc(here: Site) -> Path:
    """Give this thread and what it starts an /etc of their own, by unshare(2); return our file in it."""
    kernel, before = ctypes.CDLL(None, use_errno=True), os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    here.closing.callback(os.close, before)
    if kernel.unshare(NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    here.closing.callback(kernel.setns, before, NEW_MOUNTS)
    copy = here.machine.home / "etc"
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["cp", "-a", "/etc", str(copy)],
        ["mount", "--bind", str(copy), "/etc"],
    ):
        subprocess.run(command, check=True)
    file = Path("/etc/toolhive/llm.toml")
    file.parent.mkdir(mode=0o755)
    return file


def decided_centrally(here: Site) -> None:
    """Change the administrator's file under a machine that follows it."""
    file, cable = own_etc(here), here.closing.enter_context(Cable(here.machine.gateway.port))
    for url in (here.machine.gateway.url, f"https://127.0.0.1:{cable.port}"):
        here.run("setup", "--yes")
        file.write_text(f'gateway_url = "{url}"\nlocked = ["gateway_url"]\n')


def decided_by_anybody(here: Site) -> None:
    file = own_etc(here)
    file.write_text('models = ["m-1"]\n')
    here.run("setup", "--yes")
    file.chmod(0o666)


def ca_gone(here: Site) -> None:
    copy = here.machine.home / "ca.pem"
    copy.write_bytes(Path(here.machine.provider.ca_file).read_bytes())
    here.run("setup", "--yes", "--ca-file", str(copy))
    copy.unlink()
    here.run("proxy", "restart")


def our_ca(here: Site) -> Mapping[str, str]:
    return {"FILE": str(here.machine.provider.ca_file)}


def stored_badly(change: Step) -> Step:
    """Damage the stored session while no service has it in memory."""

    def plant(here: Site) -> None:
        here.run("proxy", "stop")
        change(here)
        here.run("proxy", "start", "--background")

    return plant


def locked_by_passphrase(here: Site) -> None:
    here.environ["THV_LLM_PASSPHRASE"] = "open sesame"
    here.run("login", "--force")
    del here.environ["THV_LLM_PASSPHRASE"]
    here.run("proxy", "restart")


def gateway_url(here: Site) -> Mapping[str, str]:
    return {"URL": here.machine.gateway.url}


def mode(name: str, bits: int) -> Step:
    return lambda here: here.own(name).chmod(bits)


def pid(here: Site) -> int:
    return int(json.loads(here.own("pid").read_text())["pid"])


def killed(here: Site) -> None:
    victim = pid(here)
    os.kill(victim, signal.SIGKILL)
    until(lambda: processes.look(victim) is None)


def socket_gone(here: Site) -> None:
    """End the login session whose runtime directory the socket is in, as systemd does."""
    runtime = here.machine.home / "run"
    runtime.mkdir(mode=0o700)
    here.environ["XDG_RUNTIME_DIR"] = str(runtime)
    here.run("setup", "--yes")
    here.own("socket").unlink()
    until(here.own("socket").exists)  # it has just looked, and looks again in a few seconds
    shutil.rmtree(runtime)


def foreign_listener(here: Site) -> None:
    here.run("proxy", "stop")
    here.closing.enter_context(socket.create_server(("127.0.0.1", here.machine.port)))


def edited_settings(change: Callable[[str], str]) -> Step:
    def plant(here: Site) -> None:
        here.kept = here.own("settings").read_bytes()
        here.own("settings").write_text(change(here.kept.decode()))

    return plant


def repaired_settings(here: Site) -> None:
    here.own("settings").write_bytes(here.kept)


def replaced_program(here: Site) -> None:
    """Run the service from a copy of the program, and change the copy."""
    copy = here.machine.home / "copy"
    shutil.copytree(TOP / "thv_llm", copy / "thv_llm", ignore=shutil.ignore_patterns("__pycache__"))
    launcher = Path(shutil.copy(TOP / "thv_llm.py", copy))
    here.run("proxy", "stop")
    command = [sys.executable, "-I", str(launcher), "proxy", "start", "--background"]
    subprocess.run(command, env=here.environ, check=True, capture_output=True)
    launcher.write_text(f"{launcher.read_text()}\n")


def another_installation(here: Site) -> None:
    text = here.machine.opencode.read_text().replace(f":{here.machine.port}/", f":{homes.free_port()}/")
    here.machine.opencode.write_text(re.sub(r"thv-[\w-]{20,}", f"thv-{'A' * 43}", text))


def unconfigured(here: Site) -> None:
    here.run("teardown")
    here.run("config", "reset")


LOGGED_OUT = {
    "token": "not logged in",
    "status": "not logged in",
    "doctor": "not logged in",
    "tool": "Next: thv-llm login",
}
"""What each shows where there is no session."""

ROWS = (
    Row(
        "The provider",
        "It returns HTTP 503",
        refresh_fails(503, b""),
        {
            "token": "returned HTTP 503",
            "status": "the last refresh failed",
            "doctor": "returned HTTP 503",
            "tool": "401 thv-llm: cannot get an access token",
        },
        "if the problem persists, contact your administrator",
        recovers,
    ),
    Row(
        "The provider",
        "Its load balancer shows a web page with HTTP 503",
        refresh_fails(503, "<html>down"),
        {
            "token": "returned HTTP 503",
            "status": "returned HTTP 503",
            "doctor": "returned HTTP 503",
            "tool": "returned HTTP 503",
        },
        "if the problem persists, contact your administrator",
        recovers,
    ),
    Row(
        "The provider",
        "It hangs",
        hangs,
        {
            "token": "no complete response from 127.0.0.1 within 10 s",
            "status": "no complete response from 127.0.0.1 within 10 s",
            "doctor": "no complete response from 127.0.0.1 within 10 s",
        },
        "check the network",
        recovers,
    ),
    Row(
        "The provider",
        "It asks to come back later (HTTP 429)",
        refresh_fails(429, {"error": "slow_down"}, Retry_After="3"),
        {
            "token": "'slow_down'",
            "status": "the last refresh failed",
            "doctor": "'slow_down'",
            "tool": "'slow_down'",
        },
        "retry in",
        recovers,
    ),
    Row(
        "The provider",
        "A network's login page is shown in its place",
        refresh_fails(200, "<html>log in"),
        {
            "token": "returned a web page (HTTP 200) instead of JSON",
            "status": "web page",
            "doctor": "web page",
            "tool": "web page",
        },
        "if a browser shows a network's login page, log in there",
        recovers,
    ),
    Row(
        "The provider",
        "Its token response is broken",
        refresh_fails(200, {"token_type": "mac"}),
        {
            "token": "token_type is 'mac', not Bearer",
            "status": "not Bearer",
            "doctor": "not Bearer",
            "tool": "not Bearer",
        },
        "contact your administrator",
        recovers,
    ),
    Row(
        "The provider",
        "It ended the session",
        revoked,
        {
            "token": "the stored session has ended (invalid_grant)",
            "status": "the stored session has ended",
            "doctor": "not logged in",
            "tool": "Next: thv-llm login",
        },
        "thv-llm login",
    ),
    Row(
        "The provider",
        "It wants you to log in again (policy, second factor)",
        json_error("interaction_required", "AADSTS50076"),
        {
            "token": "the provider wants you to log in again",
            "status": "log in again",
            "doctor": "log in again",
            "tool": "Next: thv-llm login",
        },
        "thv-llm login",
    ),
    ended(
        "It ended the session: Entra ID, of a user who was away for 90 days",
        "AADSTS700082: The refresh token has expired due to inactivity.",
        "not used for too long",
    ),
    ended(
        "It ended the session: Entra ID, after another password",
        "AADSTS50173: The provided grant has expired due to it being revoked.",
        "the password was changed",
    ),
    ended(
        "It ended the session: Okta",
        "The refresh token is invalid or expired.",
        "the access policy has ended it, or it was revoked",
    ),
    ended(
        "It ended the session: Auth0 (HTTP 403)",
        "Unknown or invalid refresh token.",
        "it has expired, was revoked, or was used twice",
        status=403,
    ),
    ended(
        "It ended the session: Keycloak, by time",
        "Token is not active",
        "it has expired: the realm's session or offline session has ended",
    ),
    ended(
        "It ended the session: Keycloak, by a logout elsewhere",
        "Session not active",
        "the realm's session has ended, by time or by a logout",
    ),
    interaction(
        "Auth0 wants a second factor (HTTP 403)",
        "mfa_required",
        "Multifactor authentication required",
        "a second factor is wanted",
        status=403,
    ),
    interaction(
        "Entra ID wants a second factor, by a suberror",
        "invalid_grant",
        "AADSTS50079: The user must enroll.",
        "a second factor must be registered",
        suberror="basic_action",
    ),
    interaction(
        "Google's session length is over",
        "invalid_grant",
        "reauth related error (invalid_rapt)",
        "your organization's session length is over",
        error_subtype="invalid_rapt",
    ),
    Row(
        "The provider",
        "It renews no ID token, which the gateway wants",
        no_id_token_on_refresh,
        {
            "token": "the provider renews no ID token, which the gateway wants",
            "status": "renews no ID token",
            "doctor": "not logged in",
            "tool": "renews no ID token",
        },
        "thv-llm setup --gateway-token access_token",
    ),
    Row(
        "The provider",
        "It wants a client secret",
        secret_missing,
        {
            "token": "'invalid_client': 'client_secret is missing.'",
            "status": "client_secret is missing",
            "doctor": "client_secret is missing",
            "tool": "client_secret is missing",
        },
        "thv-llm setup --client-secret-file FILE",
        values=secret_file("secret-of-the-client"),
    ),
    Row(
        "The provider",
        "The client secret has been replaced there",
        secret_changed,
        {
            "token": "'invalid_client'",
            "status": "invalid_client",
            "doctor": "invalid_client",
            "tool": "invalid_client",
        },
        "check the client secret: thv-llm setup --client-secret-file FILE",
        values=secret_file("secret-of-the-client"),
    ),
    Row(
        "The provider",
        "The redirect URI of the login is not registered there",
        not_registered,
        {
            "token": "not logged in",
            "status": "not logged in",
            "doctor": "not logged in",
            "login": "If the provider's page says the redirect URI is wrong,",
        },
        "your administrator must register it there",
        registered,
    ),
    Row(
        "The provider",
        "Another program has the port of the login's redirect",
        fixed_port_in_use,
        {
            "token": "not logged in",
            "status": "not logged in",
            "doctor": "not logged in",
            "login": "is used by another program",
        },
        "thv-llm setup --callback-port PORT",
        values=lambda _: {"PORT": str(homes.free_port())},
    ),
    Row(
        "The provider",
        "It refuses to revoke the session at logout",
        revocation_refused,
        {
            "logout": "The session was not revoked at the provider: 127.0.0.1 returned HTTP 401",
            **LOGGED_OUT,
        },
        "end the session in your account at the provider, or have your administrator do so",
        lambda here: here.run("login"),
    ),
    Row(
        "The provider",
        "It does not allow a scope",
        json_error("invalid_scope", "Offline tokens not allowed", ("scope", "email")),
        {
            "token": "'invalid_scope': 'Offline tokens not allowed'",
            "status": "invalid_scope",
            "doctor": "invalid_scope",
            "tool": "invalid_scope",
        },
        "thv-llm setup --scopes LIST",
        values=lambda _: {"LIST": "openid offline_access email"},
    ),
    Row(
        "The provider",
        "It does not know the client id",
        json_error("invalid_client", "unknown", ("client_id", "other")),
        {
            "token": "'invalid_client'",
            "status": "invalid_client",
            "doctor": "invalid_client",
            "tool": "invalid_client",
        },
        "thv-llm setup --client-id ID",
        values=lambda _: {"ID": "other"},
    ),
    Row(
        "The provider",
        "It denies access to you",
        refresh_fails(400, {"error": "access_denied", "error_description": "not in the group"}),
        {
            "token": "'access_denied': 'not in the group'",
            "status": "access_denied",
            "doctor": "access_denied",
            "tool": "access_denied",
        },
        "ask your administrator for access",
        recovers,
    ),
    Row(
        "The provider",
        "It does not allow refresh tokens for the client",
        refresh_fails(400, {"error": "unauthorized_client"}),
        {
            "token": "'unauthorized_client'",
            "status": "unauthorized_client",
            "doctor": "unauthorized_client",
            "tool": "unauthorized_client",
        },
        "ask your administrator to allow this login and refresh tokens for oidc.client_id",
        recovers,
    ),
    Row(
        "The provider",
        "It issues no refresh token",
        no_refresh_token,
        {
            "token": "",
            "status": "logged in without a refresh token",
            "doctor": "the provider issued no refresh token",
            "tool": "200",
        },
        "ask the administrator of the provider to allow offline_access",
        login_after_recovery,
    ),
    Row(
        "The provider",
        "Its metadata names another issuer",
        another_issuer,
        {
            "token": "",
            "status": "",
            "doctor": "its metadata names the issuer",
            "tool": "200",
        },
        "thv-llm setup --issuer URL",
        recovers,
        values=lambda here: {"URL": here.machine.provider.issuer},
    ),
    Row(
        "The provider",
        "The issuer's URL is wrong",
        lambda here: saved("--issuer", here.machine.provider.issuer + "/x")(here),
        {
            "token": "not logged in",
            "status": "not logged in",
            "doctor": "returned HTTP 404: this is no issuer",
            "tool": "not logged in",
        },
        "thv-llm setup --issuer URL",
        values=lambda here: {"URL": here.machine.provider.issuer},
    ),
    Row(
        "The provider",
        "The session is about to end",
        about_to_end,
        {
            "token": "",
            "status": "session ends in",
            "doctor": "ends in 30 min",
            "tool": "200",
        },
        "thv-llm login --force",
    ),
    Row(
        "The provider",
        "Its access tokens live too short",
        short_tokens,
        {
            "token": "",
            "status": "access token expires in",
            "doctor": "tools request one every 300 s",
            "tool": "200",
        },
        "ask the administrator of the provider for a longer lifetime",
        long_tokens,
    ),
    Row(
        "The gateway",
        "It rejects the token: another audience",
        wants_audience,
        {
            "token": "",
            "status": "",
            "doctor": "it is perhaps meant for another audience",
            "tool": "401",
        },
        "thv-llm setup --audience NAME",
        values=lambda _: {"NAME": "llm"},
    ),
    Row(
        "The gateway",
        "It denies access (HTTP 403)",
        gateway_returns(403),
        {
            "token": "",
            "status": "",
            "doctor": "access denied",
            "tool": "403",
        },
        "ask the administrator of the gateway for access",
        recovers,
    ),
    Row(
        "The gateway",
        "Its URL is wrong (HTTP 404)",
        gateway_returns(404),
        {
            "token": "",
            "status": "",
            "doctor": "it lists no models there",
            "tool": "404",
        },
        "ask the administrator of the gateway for its URL",
        recovers,
        values=gateway_url,
    ),
    Row(
        "The gateway",
        "It redirects to a login page",
        gateway_returns(302, Location="https://login.example/"),
        {
            "token": "",
            "status": "",
            "doctor": "a sign-in proxy stands in front of the gateway",
            "tool": "502 thv-llm: a sign-in proxy stands in front of the gateway",
        },
        "ask the administrator to let requests with a token through",
        recovers,
    ),
    Row(
        "The gateway",
        "It redirects to another address of its own",
        gateway_returns(302, Location="/elsewhere"),
        {
            "token": "",
            "status": "",
            "doctor": "it redirects, which is never followed",
            "tool": "302",
        },
        "ask the administrator of the gateway for its URL",
        recovers,
        values=gateway_url,
    ),
    Row(
        "The gateway",
        "It returns HTTP 503",
        gateway_returns(503),
        {
            "token": "",
            "status": "",
            "doctor": "HTTP 503 from",
            "tool": "503",
        },
        "try again later; if the problem persists, contact the administrator of the gateway",
        recovers,
    ),
    Row(
        "The gateway",
        "It hangs",
        gateway_hangs,
        {
            "token": "",
            "status": "",
            "doctor": "no complete response from 127.0.0.1 within 10 s",
            "tool": "no response",
        },
        "check the network",
        recovers,
    ),
    Row(
        "The gateway",
        "It limits requests (HTTP 429)",
        gateway_returns(429),
        {
            "token": "",
            "status": "",
            "doctor": "HTTP 429 from",
            "tool": "429",
        },
        "try again later",
        recovers,
    ),
    Row(
        "The gateway",
        "It does not serve an API where the settings say",
        saved("--anthropic-path-prefix", "/nowhere"),
        {
            "token": "",
            "status": "claude-code direct outdated",
            "doctor": "no Anthropic API there for Claude Code",
            "tool": "200",
        },
        "thv-llm setup",
    ),
    Row(
        "The gateway",
        "It serves the API of a tool nowhere",
        without_openai,
        {
            "token": "",
            "status": "",
            "doctor": "no OpenAI API there for OpenCode",
            "tool": "404",
            "setup": "Skipped OpenCode: the gateway does not serve OpenAI's API",
        },
        "ask the administrator of the gateway for its path; then: thv-llm setup --openai-path-prefix PATH",
        openai_elsewhere,
        values=lambda _: {"PATH": "/llm"},
    ),
    Row(
        "The gateway",
        "It says nothing without a token, and setup had none (`--lazy`)",
        lazily,
        LOGGED_OUT,
        "thv-llm login",
    ),
    Row(
        "The gateway",
        "What it publishes has changed since setup",
        published_anew,
        {
            "token": "",
            "status": "",
            "doctor": "has changed since setup: oidc.audience 'team-llm' (here: '')",
            "tool": "200",
        },
        "thv-llm setup URL",
        values=gateway_url,
    ),
    Row(
        "The network",
        "The provider cannot be reached",
        pulled("to_provider"),
        {
            "token": "connection refused by",
            "status": "the last refresh failed",
            "doctor": "cannot reach the provider",
            "tool": "401 thv-llm: cannot reach the provider",
        },
        "check the network",
        lambda here: here.to_provider.plug(),
    ),
    Row(
        "The network",
        "The gateway cannot be reached",
        pulled("to_gateway"),
        {
            "token": "",
            "status": "",
            "doctor": "cannot reach the gateway",
            "tool": "502 thv-llm: no response from the gateway: connection refused",
        },
        "check the network",
        lambda here: here.to_gateway.plug(),
    ),
    Row(
        "The HTTP proxy",
        "Nothing listens where HTTPS_PROXY points",
        with_proxy(dead_proxy),
        {
            "token": "connection refused by the proxy",
            "status": "connection refused by the proxy",
            "doctor": "connection refused by the proxy",
            "tool": "connection refused by the proxy",
        },
        'thv-llm setup --service-network ""',
        without_proxy,
    ),
    Row(
        "The HTTP proxy",
        "It requires a user name and a password",
        with_proxy(lambda here: opened(ConnectProxy("user", "pw"), here).bare_url),
        {
            "token": "requires a user name and password",
            "status": "requires a user name",
            "doctor": "requires a user name",
            "tool": "requires a user name",
        },
        "export HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT and run thv-llm setup",
        password_proxy,
    ),
    Row(
        "The HTTP proxy",
        "It wants a login that thv-llm does not have (Kerberos, NTLM)",
        with_proxy(lambda here: opened(ConnectProxy("user", "pw", scheme="Negotiate"), here).bare_url),
        {
            "token": "requires a login other than by user name and password",
            "status": "requires a login other",
            "doctor": "requires a login other",
            "tool": "requires a login other",
        },
        "ask your administrator for a proxy that takes a password",
        password_proxy,
    ),
    Row(
        "Certificates",
        "A certificate authority that this machine does not trust",
        saved("--ca-file", ""),
        {
            "token": "certificate authority (CA) that this machine does not trust",
            "status": "certificate",
            "doctor": "does not trust",
            "tool": "does not trust",
        },
        "thv-llm setup --ca-file FILE",
        values=our_ca,
    ),
    Row(
        "Certificates",
        "The file of certificate authorities is missing",
        ca_gone,
        {
            "token": "ca_file",
            "status": "ca_file",
            "doctor": "ca_file",
            "tool": "no response",
        },
        "thv-llm setup --ca-file FILE",
        values=our_ca,
    ),
    Row(
        "Certificates",
        "The gateway's certificate is not checked",
        saved("--tls-skip-verify"),
        {
            "token": "",
            "status": "",
            "doctor": "tls_skip_verify is on",
            "tool": "200",
        },
        "thv-llm setup --no-tls-skip-verify",
    ),
    Row(
        "The clock",
        "It is slow",
        skewed(7200),
        {
            "token": "",
            "status": "",
            "doctor": "s behind the provider's",
            "tool": "200",
        },
        "sudo timedatectl set-ntp true",
        recovers,
    ),
    Row(
        "The clock",
        "It is twenty years slow",
        wrong_year(-20),
        {
            "token": "is not valid yet (this machine's date: ",
            "status": "logged in (this clock was set back since)",
            "doctor": "is not valid yet (this machine's date: ",
            "tool": "is not valid yet (this machine's date: ",
        },
        "sudo timedatectl set-ntp true",
        lambda here: show(here, server_context()),
    ),
    Row(
        "The clock",
        "It is ten years fast",
        wrong_year(10),
        {
            "token": "has expired (this machine's date: ",
            "status": "has expired (this machine's date: ",
            "doctor": "has expired (this machine's date: ",
            "tool": "has expired (this machine's date: ",
        },
        "sudo timedatectl set-ntp true",
        lambda here: show(here, server_context()),
    ),
    Row(
        "The clock",
        "It is fast",
        skewed(-7200),
        {
            "token": "",
            "status": "",
            "doctor": "s ahead of the provider's",
            "tool": "200",
        },
        "sudo timedatectl set-ntp true",
        recovers,
    ),
    Row(
        "The session",
        "You are not logged in",
        lambda here: here.run("logout"),
        LOGGED_OUT,
        "thv-llm login",
    ),
    Row(
        "The session",
        "The session file is missing",
        stored_badly(lambda here: here.own("session_file").unlink()),
        LOGGED_OUT,
        "thv-llm login",
    ),
    Row(
        "The session",
        "The desktop's keyring is locked",
        locked_keyring,
        {
            "token": "the keyring is locked",
            "status": "the keyring is locked",
            "doctor": "the keyring is locked",
            "tool": "the keyring is locked",
        },
        "unlock it (log in to the desktop)",
        lambda here: setattr(here.keyring, "locked", False),
    ),
    Row(
        "The session",
        "The key of the session file is missing",
        stored_badly(lambda here: here.own("session_file_key").unlink()),
        {
            "token": "its key",
            "status": "is missing or broken",
            "doctor": "its key",
            "tool": "its key",
        },
        "thv-llm login",
    ),
    Row(
        "The session",
        "The session file is damaged",
        stored_badly(lambda here: here.own("session_file").write_bytes(b"x")),
        {
            "token": "cannot open the session",
            "status": "",
            "doctor": "cannot open the session",
            "tool": "cannot open the session",
        },
        "thv-llm login",
    ),
    Row(
        "The session",
        "The passphrase of the session file is not set",
        locked_by_passphrase,
        {
            "token": "passphrase",
            "status": "passphrase",
            "doctor": "passphrase",
            "tool": "passphrase",
        },
        "thv-llm proxy restart",
        lambda here: here.environ.update(THV_LLM_PASSPHRASE="open sesame"),
    ),
    Row(
        "Files of thv-llm",
        "llm.toml is not TOML",
        edited_settings(lambda _: "gateway_url =\n"),
        {
            "token": "",
            "status": "not TOML",
            "doctor": "not TOML",
            "tool": "200",
        },
        "fix that line",
        repaired_settings,
    ),
    Row(
        "Files of thv-llm",
        "A value in llm.toml cannot be used",
        edited_settings(lambda text: text.replace("https://", "ftp://", 1)),
        {
            "token": "",
            "status": "it must be an https URL",
            "doctor": "it must be an https URL",
            "tool": "200",
        },
        "thv-llm setup --gateway-url URL",
        values=gateway_url,
    ),
    Row(
        "Files of thv-llm",
        "llm.toml has a line that is no setting",
        edited_settings(lambda text: f"{text}color = 'red'\n"),
        {
            "token": "",
            "status": "is not a setting",
            "doctor": "is not a setting",
            "tool": "200",
        },
        "fix that line",
        repaired_settings,
    ),
    Row(
        "Files of thv-llm",
        "The record of what setup did is damaged",
        lambda here: here.own("state").write_text("{"),
        {
            "token": "",
            "status": "cannot understand",
            "doctor": "cannot understand",
            "tool": "200",
        },
        "mv",
    ),
    Row(
        "Files of thv-llm",
        "The record of what setup did is missing",
        lambda here: here.own("state").unlink(),
        {
            "token": "",
            "status": "there is no record of its key",
            "doctor": "there is no record of its key",
            "tool": "200",
        },
        "thv-llm setup",
    ),
    Row(
        "Files of thv-llm",
        "A file belongs to another user",
        lambda here: os.chown(here.own("settings"), 12345, -1),
        {
            "token": "",
            "status": "",
            "doctor": "belongs to another user",
            "tool": "200",
        },
        "sudo chown",
        needs_root=True,
    ),
    Row(
        "Files of thv-llm",
        "Other users can write llm.toml",
        mode("settings", 0o666),
        {
            "token": "",
            "status": "",
            "doctor": "other users can read or write",
            "tool": "200",
        },
        "chmod go=",
    ),
    Row(
        "Files of thv-llm",
        "Other users can read the record",
        mode("state", 0o644),
        {
            "token": "",
            "status": "",
            "doctor": "other users can read or write",
            "tool": "200",
        },
        "chmod go=",
    ),
    Row(
        "Files of thv-llm",
        "The credential helper is missing",
        lambda here: here.own("helper").unlink(),
        {
            "token": "",
            "status": "the helper is missing",
            "doctor": "thv-llm-token is missing",
            "tool": "200",
        },
        "thv-llm setup",
    ),
    Row(
        "Files of thv-llm",
        "The credential helper is not executable",
        mode("helper", 0o600),
        {
            "token": "",
            "status": "the helper is not executable",
            "doctor": "is not executable",
            "tool": "200",
        },
        "chmod u+x",
    ),
    Row(
        "Files of thv-llm",
        "The program was moved",
        lambda here: helper.write(here.machine.paths, program_path="/gone/thv-llm.pyz"),
        {
            "token": "",
            "status": "which is missing",
            "doctor": "which is missing",
            "tool": "200",
        },
        "thv-llm setup",
    ),
    Row(
        "The service",
        "It was killed",
        killed,
        {
            "status": "not running",
            "tool": "no response",
        },
        "thv-llm setup",
    ),
    Row(
        "The service",
        "You stopped it",
        lambda here: here.run("proxy", "stop"),
        {
            "token": "",
            "status": "opencode proxy stopped",
            "doctor": "not running",
            "tool": "no response",
        },
        "thv-llm setup",
    ),
    Row(
        "The service",
        "It hangs",
        lambda here: os.kill(pid(here), signal.SIGSTOP),
        {
            "status": "does not respond",
            "doctor": "does not respond",
        },
        "thv-llm setup",
    ),
    Row(
        "The service",
        "The directory of its socket was removed (a logout), and for some seconds there is none",
        socket_gone,
        {
            "status": "has lost its socket",
        },
        "thv-llm setup",
    ),
    Row(
        "The service",
        "Its program was replaced by another version",
        replaced_program,
        {
            "token": "",
            "status": "from a file that was replaced since",
            "doctor": "from a file that was replaced since",
            "tool": "200",
        },
        "thv-llm setup",
    ),
    Row(
        "The service",
        "Another program has the proxy's port",
        foreign_listener,
        {
            "token": "",
            "status": "",
            "doctor": "the proxy's, is used by",
        },
        "thv-llm setup --proxy-port PORT",
        values=lambda here: {"PORT": str(here.machine.port + 1)},
    ),
    Row(
        "The tools",
        "Claude Code lost our settings",
        lambda here: here.machine.claude.write_text('{"model": "haiku"}'),
        {
            "token": "",
            "status": "changed",
            "doctor": "/apiKeyHelper",
            "tool": "200",
        },
        "thv-llm setup --client claude-code",
    ),
    Row(
        "The tools",
        "A tool's settings file is missing",
        lambda here: here.machine.opencode.unlink(),
        {
            "token": "",
            "status": "opencode",
            "doctor": "opencode.jsonc",
            "tool": "200",
        },
        "thv-llm setup --client opencode",
    ),
    Row(
        "The tools",
        "A tool's settings file was broken by hand",
        lambda here: here.machine.opencode.write_text("{ nope"),
        {
            "token": "",
            "status": "expected a key in double quotes",
            "doctor": "expected a key in double quotes",
            "tool": "200",
        },
        "fix that file",
        rewritten_tool,
    ),
    Row(
        "The tools",
        "A tool has the settings of another thv-llm",
        another_installation,
        {
            "token": "",
            "status": "opencode proxy foreign",
            "doctor": "it holds the settings of a thv-llm whose proxy listens on port",
            "tool": "no response",
        },
        "thv-llm setup --take-over --client opencode",
    ),
    Row(
        "Settings",
        "The proxy takes requests without a key",
        saved("--no-require-key"),
        {
            "token": "",
            "status": "",
            "doctor": "every program and user of this machine can use the proxy",
            "tool": "200",
        },
        "thv-llm setup --require-key",
    ),
    Row(
        "Settings",
        "The gateway's URL was changed centrally, and only the service restarted",
        another_gateway,
        {
            "token": "",
            "status": "claude-code direct outdated",
            "doctor": "the settings or thv-llm have changed since",
            "tool": "200",
        },
        "thv-llm setup",
    ),
    Row(
        "Settings",
        "The proxy's port was changed centrally, and only the service restarted",
        another_port,
        {
            "token": "",
            "status": "opencode proxy outdated",
            "doctor": "the settings or thv-llm have changed since",
            "tool": "no response",
        },
        "thv-llm setup",
    ),
    Row(
        "Settings",
        "The administrator changed the system file",
        decided_centrally,
        {
            "token": "",
            "status": "claude-code direct outdated",
            "doctor": "the settings or thv-llm have changed since",
            "tool": "200",
        },
        "thv-llm setup",
        needs_root=True,
    ),
    Row(
        "Settings",
        "Other users can change the system file",
        decided_by_anybody,
        {
            "token": "",
            "status": "other users than its administrator can change /etc/toolhive/llm.toml",
            "doctor": "other users than its administrator can change /etc/toolhive/llm.toml",
            "tool": "200",
        },
        "ask the administrator of this machine: it must belong to root, and be writable by root alone",
        lambda _: Path("/etc/toolhive/llm.toml").chmod(0o644),
        needs_root=True,
    ),
    Row(
        "Settings",
        "The list of models was changed centrally",
        saved("--models", "m-1,m-2"),
        {
            "token": "",
            "status": "opencode proxy outdated",
            "doctor": "the settings or thv-llm have changed since",
            "tool": "200",
        },
        "thv-llm setup",
    ),
    Row(
        "Settings",
        "thv-llm is not configured",
        unconfigured,
        {
            "token": "thv-llm is not configured",
            "status": "thv-llm is not configured",
            "doctor": "thv-llm is not configured",
            "tool": "no response",
        },
        "thv-llm setup URL",
        lambda here: here.setup(),
        values=gateway_url,
    ),
    Row(
        "The environment",
        "HTTP_PROXY would take requests for 127.0.0.1, too",
        lambda here: here.environ.update(HTTP_PROXY="http://127.0.0.1:9"),
        {
            "token": "",
            "status": "",
            "doctor": "HTTP_PROXY is set without NO_PROXY for 127.0.0.1",
            "tool": "200",
        },
        "export NO_PROXY=",
    ),
    Row(
        "The environment",
        "HOME is a relative path",
        lambda here: here.environ.update(HOME="me"),
        {
            "token": "HOME is a relative path: 'me'",
            "status": "HOME is a relative path: 'me'",
            "doctor": "HOME is a relative path: 'me'",
            "tool": "200",
        },
        "export HOME=/PATH (an absolute path)",
        lambda here: here.environ.update(HOME=str(here.machine.home)),
    ),
    Row(
        "The environment",
        "A variable overrides a tool's settings",
        lambda here: here.environ.update(ANTHROPIC_API_KEY="x"),
        {
            "token": "",
            "status": "",
            "doctor": "ANTHROPIC_API_KEY is set",
            "tool": "200",
        },
        "unset ANTHROPIC_API_KEY",
    ),
    Row(
        "The environment",
        "A variable of thv-llm has a wrong name",
        lambda here: here.environ.update(THV_LLM_ISSUER="https://id.example.com"),
        {
            "token": "",
            "status": "",
            "doctor": "THV_LLM_ISSUER is not a setting. Did you mean `THV_LLM_OIDC_ISSUER`?",
            "tool": "200",
        },
        "unset THV_LLM_ISSUER",
    ),
)


def page() -> str:
    """Return the table of states as the manual has it."""
    lines = [f"{len(ROWS)} states. A test makes each of them so, does what is printed, and sees it help."]
    area = ""
    for row in ROWS:
        if row.area != area:
            area = row.area
            lines += ["", f"### {area}", "", "| what is wrong | what is said | next |", "|---|---|---|"]
        said: dict[str, list[str]] = {}
        for name, text in row.said.items():
            if text and text != "200":
                said.setdefault(text, []).append("a proxy tool" if name == "tool" else f"`{name}`")
        shown = "; ".join(f"`{text}` ({', '.join(who)})" for text, who in said.items())
        is_command = row.remedy.split()[0] in ("thv-llm", "chmod", "unset", "sudo", "export", "mv")
        lines.append(f"| {row.title} | {shown} | {f'`{row.remedy}`' if is_command else row.remedy} |")
    return "\n".join(lines).strip()
