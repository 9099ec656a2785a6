"""The certified provider of the tests (`provider.mjs`), and the check that a gateway makes of its tokens."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from types import TracebackType
from typing import IO, Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.e2e.install import HERE, MODULES, NODE
from tests.fakes.rsa import unb64
from tests.fakes.web import CA_FILE, TLS_DIRECTORY

CLIENT_ID = "thv-llm"
AUDIENCE = "https://gateway.example"
USUAL = {"access_ttl_s": 3600.0, "delay_ms": 0.0, "lost_share": 0.0, "reuse_grace_s": 0.0}


class NpmProvider:
    """A provider process while the context lasts.

    Attributes:
        issuer: its issuer identifier.
    """

    ca_file = CA_FILE

    def __init__(self) -> None:
        self.issuer = ""
        self._process: subprocess.Popen[str] | None = None
        self._keys: dict[str, rsa.RSAPublicKey] = {}
        self._context = ssl.create_default_context(cafile=CA_FILE)

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
        }
        stdin, stdout = self._streams()
        stdin.write(json.dumps(given) + "\n")
        stdin.flush()
        for line in stdout:
            if line.startswith("{"):  # not one of the library's warnings
                self.issuer = json.loads(line)["issuer"]
                break
        assert self.issuer, "the provider did not start"
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
        """Behave as usual, but for these: `access_ttl_s`, `delay_ms`, `lost_share`, `reuse_grace_s`."""
        self._ask("/test/settings", json.dumps({**USUAL, **settings}).encode())

    def seen(self) -> dict[str, int]:
        """Return how much of what it has seen since it started."""
        seen: dict[str, int] = self._ask("/test/seen")["seen"]
        return seen

    def spend(self, refresh_token: str) -> int:
        """Use a refresh token as somebody who found it would; return the status of the answer."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CLIENT_ID}
        try:
            self._ask("/token", urllib.parse.urlencode(form).encode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        return 200

    def refresh_tokens(self) -> list[str]:
        """Return every refresh token that it ever gave out."""
        given: list[str] = self._ask("/test/seen")["refreshTokens"]
        return given

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(self.issuer + path, body, timeout=20, context=self._context) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of an access token; what a gateway checks is checked.

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
        if claims["iss"] != self.issuer or claims["aud"] != AUDIENCE:
            raise ValueError("another issuer or audience")
        if claims["exp"] <= time.time():
            raise ValueError("expired")
        found: dict[str, Any] = claims
        return found

    def _key(self, kid: str) -> rsa.RSAPublicKey:
        if not self._keys:
            for jwk in self._ask("/jwks")["keys"]:
                n, e = (int.from_bytes(unb64(jwk[name]), "big") for name in ("n", "e"))
                self._keys[jwk["kid"]] = rsa.RSAPublicNumbers(e, n).public_key()
        return self._keys[kid]
