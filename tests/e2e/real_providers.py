"""Providers that companies run, each on loopback as long as a context lasts: one user, one public client.

Canaille and django-oauth-toolkit are WSGI applications (`providers/`), Glewlwyd is a server of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.e2e.install import E2E, HERE
from tests.e2e.machine import free_port
from tests.e2e.npm_provider import CLIENT_ID, _trust, fetched
from tests.fakes.web import CA_FILE, TLS_DIRECTORY

PROVIDERS = HERE / "providers"
START_S = 90.0
GLEWLWYD_TABLES = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")


class Behavior(NamedTuple):
    """What a provider does.

    Attributes:
        title: with the version of which this was seen.
        rotates: each refresh brings a new refresh token.
        ends_access: a refresh ends the access token before it.
        reuse: the status of the response when a used one comes back.
        ends_session: that ends the session, too.
        revocation: what logout says of it.
    """

    title: str
    rotates: bool
    ends_access: bool
    reuse: int
    ends_session: bool
    revocation: str


BEHAVIOR = {
    "canaille": Behavior("Canaille 0.3.6", True, True, 400, False, "HTTP 401 'invalid_client'"),
    "django-oauth-toolkit": Behavior(
        "django-oauth-toolkit 3.4.1", True, True, 400, True, "was revoked at the provider"
    ),
    "glewlwyd": Behavior("Glewlwyd 2.7.5", True, False, 400, True, "HTTP 401"),
}
"""By name, as `ALL`."""


class RealProvider:
    """A running provider.

    Attributes:
        port: of the redirect URI that is registered.
        browser: the program that logs its user in.
    """

    ca_file = CA_FILE
    client_id = CLIENT_ID

    def __init__(self, issuer: str, port: int, browser: Path = HERE / "scripted_browser.py") -> None:
        self.issuer = issuer
        self.port = port
        self.browser = browser
        self._metadata = fetched(f"{issuer}/.well-known/openid-configuration")

    def verify(self, token: str) -> dict[str, Any]:
        """Ask the provider whose access token this is, as a gateway can.

        Raises:
            ValueError: it is none that is good.
        """
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self._metadata["userinfo_endpoint"], headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20, context=_trust()) as response:
                found: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"HTTP {error.code}") from None
        return found

    def spend(self, refresh_token: str) -> int:
        """Use a refresh token as a thief would; return the status of the response."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CLIENT_ID}
        try:
            fetched(self._metadata["token_endpoint"], urllib.parse.urlencode(form).encode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        return 200

    def secrets(self) -> dict[str, list[str]]:
        """Return nothing: the test knows what it has seen."""
        return {}


def _signing_key(place: Path) -> tuple[str, str]:
    """Return the paths of a new private key and of its public one."""
    private, public = place / "signing.pem", place / "public.pem"
    for command in (("genrsa", "-out", private, "2048"), ("rsa", "-in", private, "-pubout", "-out", public)):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return str(private), str(public)


@contextmanager
def _wsgi(environment: str, script: str, path: str, place: Path) -> Iterator[RealProvider]:
    port = free_port()
    given = {
        "cert": f"{TLS_DIRECTORY}/server.pem",
        "key": f"{TLS_DIRECTORY}/server.key",
        "directory": str(place),
        "signing_key": _signing_key(place)[0],
        "client_id": CLIENT_ID,
        "redirect_uri": f"http://127.0.0.1:{port}/callback",
    }
    python = E2E / environment / "bin" / "python"
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [str(python), str(PROVIDERS / script)],
            cwd=place,
            env={"PATH": os.environ["PATH"]},  # its warnings are not ours
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, (place / "log").read_text()[-2000:]
        yield RealProvider(json.loads(line)["url"] + path, port)
    finally:
        _end(process, process.stdin, process.stdout)


def _end(process: subprocess.Popen[str], *streams: IO[str]) -> None:
    for stream in streams:
        stream.close()
    if not streams:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def canaille(place: Path) -> Iterator[RealProvider]:
    """Run Canaille."""
    with _wsgi("canaille", "canaille_oidc.py", "", place) as provider:
        yield provider


@contextmanager
def django(place: Path) -> Iterator[RealProvider]:
    """Run django-oauth-toolkit."""
    with _wsgi("django", "django_toolkit.py", "/o", place) as provider:
        yield provider


@contextmanager
def glewlwyd(place: Path) -> Iterator[RealProvider]:
    """Run Glewlwyd."""
    port, url = free_port(), f"https://127.0.0.1:{free_port()}"
    tables = sqlite3.connect(place / "db")
    tables.executescript(GLEWLWYD_TABLES.read_text())
    tables.close()
    settings = {
        "port": int(url.rpartition(":")[2]),
        "bind_address": "127.0.0.1",
        "external_url": url,
        "login_url": "login.html",
        "api_prefix": "api",
        "log_mode": "console",
        "log_level": "ERROR",
        "cookie_secure": 1,
        "session_key": "SESSION",
        "admin_scope": "g_admin",
        "profile_scope": "g_profile",
        "login_api_enabled": True,
        **{f"{kind}_module_path": f"/usr/lib/glewlwyd/{kind}" for kind in ("user", "client", "plugin")},
        "user_auth_scheme_module_path": "/usr/lib/glewlwyd/scheme",
        "use_secure_connection": True,
        "secure_connection_key_file": f"{TLS_DIRECTORY}/server.key",
        "secure_connection_pem_file": f"{TLS_DIRECTORY}/server.pem",
        "hash_algorithm": "SHA512",
    }
    lines = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    lines.append(f'database = {{ type="sqlite3" path={json.dumps(str(place / "db"))} }};')
    (place / "conf").write_text("\n".join(lines) + "\n")
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            ["glewlwyd", "--config-file", str(place / "conf")], stdout=log, stderr=log, text=True
        )
    try:
        _until_open(int(url.rpartition(":")[2]), process)
        _configure(url, f"http://127.0.0.1:{port}/callback", *_signing_key(place))
        yield RealProvider(f"{url}/api/oidc", port, PROVIDERS / "glewlwyd_browser.py")
    finally:
        _end(process)


def _until_open(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _configure(url: str, redirect_uri: str, private: str, public: str) -> None:
    """Do what its administrator does: one user, one client, the OIDC plugin."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=_trust()),
        urllib.request.HTTPCookieProcessor(CookieJar()),
    )
    scopes = ["openid", "offline_access"]
    switches = ("token", "id-token", "none", "password", "client", "device")
    for path, body in (
        ("auth/", {"username": "admin", "password": "password"}),
        ("scope/", {"name": "offline_access", "password_required": True, "scheme": {}}),
        ("user/", {"username": "dev", "password": "secret", "name": "Dev", "scope": scopes, "enabled": True}),
        (
            "client/",
            {
                "client_id": CLIENT_ID,
                "confidential": False,
                "redirect_uri": [redirect_uri],
                "authorization_type": ["code", "refresh_token", "delete_token"],
                "scope": [],
                "enabled": True,
            },
        ),
        (
            "mod/plugin/",
            {
                "module": "oidc",
                "name": "oidc",
                "order_rank": 0,
                "parameters": {
                    "iss": f"{url}/api/oidc",
                    "jwt-type": "rsa",
                    "jwt-key-size": "256",
                    "key": Path(private).read_text(),
                    "cert": Path(public).read_text(),
                    "access-token-duration": 3600,
                    "refresh-token-duration": 1209600,
                    "code-duration": 600,
                    "refresh-token-rolling": True,
                    "refresh-token-one-use": "always",
                    "allow-non-oidc": True,
                    "auth-type-code-enabled": True,
                    "auth-type-refresh-enabled": True,
                    **{f"auth-type-{name}-enabled": False for name in switches},
                    "pkce-allowed": True,
                    "pkce-method-plain-allowed": False,
                    "pkce-required": True,
                    "jwks-show": True,
                    "introspection-revocation-allowed": True,
                    "introspection-revocation-allow-target-client": True,
                },
            },
        ),
    ):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/api/{path}", json.dumps(body).encode(), headers)
        opener.open(request, timeout=20).close()


ALL = {"canaille": canaille, "django-oauth-toolkit": django, "glewlwyd": glewlwyd}


def browser_command(provider: RealProvider) -> str:
    """Return the text of a program that logs its user in, as `$BROWSER`."""
    return f'#!/bin/sh\nexec "{sys.executable}" -I "{provider.browser}" "{provider.ca_file}" "$1"\n'
