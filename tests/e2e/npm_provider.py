"""The certified provider of the tests (`provider.mjs`), and the check that a gateway makes of its tokens."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import cache
from types import TracebackType
from typing import IO, Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests import canaries
from tests.e2e.install import HERE, MODULES, NODE
from tests.fakes.rsa import unb64
from tests.fakes.web import CA_FILE, TLS_DIRECTORY

CLIENT_ID = "thv-llm"
AUDIENCE = "https://gateway.example"
USUAL = {"access_ttl_s": 3600.0, "delay_ms": 0.0, "lose_every": 0.0, "reuse_grace_s": 0.0}


class TokenCheck:
    """The check that a gateway makes of the access tokens of one issuer."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys: dict[str, rsa.RSAPublicKey] = {}

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of an access token.

        Raises:
            ValueError: no JWT of this provider's, for another audience, or expired.
        """
        try:
            head, payload, signature = token.split(".")
            header, claims = json.loads(unb64(head)), json.loads(unb64(payload))
            key = self._key(header["kid"])
            key.verify(unb64(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), SHA256())
        except (KeyError, TypeError, InvalidSignature) as error:
            raise ValueError("not a token of this provider's") from error
        if header["alg"] != "RS256" or header.get("typ") != "at+jwt":
            raise ValueError("not an access token")
        if claims["iss"] != self._issuer or claims["aud"] != self._audience:
            raise ValueError("another issuer or audience")
        if claims["exp"] <= time.time():
            raise ValueError("expired")
        found: dict[str, Any] = claims
        return found

    def _key(self, kid: str) -> rsa.RSAPublicKey:
        if not self._keys:
            for jwk in fetched(f"{self._issuer}/jwks")["keys"]:
                n, e = (int.from_bytes(unb64(jwk[name]), "big") for name in ("n", "e"))
                self._keys[jwk["kid"]] = rsa.RSAPublicNumbers(e, n).public_key()
        return self._keys[kid]


def fetched(url: str, body: bytes | None = None) -> Any:
    """Return the JSON at a URL of a provider of ours; with a body it is sent there."""
    with urllib.request.urlopen(url, body, timeout=20, context=_trust()) as response:
        return json.load(response)


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CA_FILE)


class NpmProvider:
    """A provider process while the context lasts.

    Args:
        host, port: where it listens, and is called; 0 for any port.

    Attributes:
        issuer: its issuer identifier.
        verify: the check that a gateway makes of its access tokens.
    """

    ca_file = CA_FILE
    client_id = CLIENT_ID
    audience = AUDIENCE

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.issuer = ""
        self._address = {"host": host, "port": port}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [str(NODE), str(HERE / "provider.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        given = {
            "modules": str(MODULES),
            "cert": f"{TLS_DIRECTORY}/server.pem",
            "key": f"{TLS_DIRECTORY}/server.key",
            "client_id": CLIENT_ID,
            "audience": AUDIENCE,
            **self._address,
        }
        stdin, stdout = self._streams()
        stdin.write(json.dumps(given) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, "the provider did not start"
        self.issuer = json.loads(line)["issuer"]
        self.verify = TokenCheck(self.issuer, AUDIENCE).verify
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process
        for stream in self._streams():
            stream.close()
        self._process.wait(20)

    def _streams(self) -> tuple[IO[str], IO[str]]:
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout

    def change(self, **settings: float) -> None:
        """Behave as usual, but for these: `access_ttl_s`, `delay_ms`, `lose_every`, `reuse_grace_s`."""
        self._ask("settings", {**USUAL, **settings})

    def seen(self) -> dict[str, int]:
        """Return how much of what it has seen since it started."""
        seen: dict[str, int] = self._ask("seen")
        return seen

    def spend(self, refresh_token: str) -> int:
        """Use a refresh token as a thief would; return the status of the response."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CLIENT_ID}
        try:
            fetched(f"{self.issuer}/token", urllib.parse.urlencode(form).encode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        return 200

    def issue_refresh_token(self) -> str:
        """Start a session without a login, and return its refresh token."""
        token: str = self._ask("session")
        return token

    def is_live(self, refresh_token: str) -> bool:
        """Tell whether a refresh token is the one to use next."""
        found: bool = self._ask("live", refresh_token)
        return found

    def secrets(self) -> dict[str, list[str]]:
        """Return every secret that it ever gave out or was sent, by kind; the canaries know them, too."""
        found: dict[str, list[str]] = self._ask("secrets")
        for kind, texts in found.items():
            canaries.note(kind, *texts)
        return found

    def refresh_tokens(self) -> list[str]:
        """Return every refresh token that it ever gave out."""
        return self.secrets()["rt"]

    def _ask(self, name: str, sent: object = None) -> Any:
        return fetched(f"{self.issuer}/test/{name}", json.dumps(sent).encode())
