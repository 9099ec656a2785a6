"""Misbehaviors of the ID token and of the keys that it is signed with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.fakes import rsa
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.oidc.modes import DEEP, HTML, Install, Json, nothing, refuses, returns, takes


def idt(change: Callable[[Json, Json], object]) -> Install:
    """Change header or claims of the ID token before it is signed."""

    def install(provider: FakeProvider) -> None:
        def alter(header: Json, claims: Json) -> str | None:
            changed = change(header, claims)
            return changed if isinstance(changed, str) else None

        provider.alter_id_token = alter

    return install


def claim(name: str, value: Any = None) -> Install:
    def change(_: Json, claims: Json) -> None:
        claims.pop(name, None)
        if value is not None:
            claims[name] = value

    return idt(change)


def later(name: str, seconds: float) -> Install:
    return idt(lambda _, claims: claims.update({name: claims["iat"] + seconds}))


def header(**values: Any) -> Install:
    return idt(lambda header, _: header.update(values))


def broken_signature(header: Json, claims: Json) -> str:
    token = rsa.jwt(header, claims, rsa.KEY)
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def signed_by_another(header: Json, claims: Json) -> str:
    return rsa.jwt(header, claims, rsa.OTHER_KEY)


def unsigned(header: Json, claims: Json) -> str:
    return rsa.jwt({**header, "alg": "none"}, claims, rsa.KEY).rpartition(".")[0] + "."


def raw_claims(change: Callable[[bytes], bytes]) -> Install:
    return idt(lambda header, claims: rsa.jwt(header, change(json.dumps(claims).encode()), rsa.KEY))


def no_alg(header: Json, _: Json) -> None:
    del header["alg"]


def no_kid(header: Json, _: Json) -> None:
    del header["kid"]


def two_keys_no_kid(provider: FakeProvider) -> None:
    provider.keys = [rsa.OTHER_KEY, rsa.KEY]
    idt(no_kid)(provider)


def key_appears_late(provider: FakeProvider) -> None:
    """Sign with a key that the first fetch of the JWKS does not show yet."""

    def alter(response: ServerResponse) -> ServerResponse:
        if provider.count("jwks") == 1:
            response.body = {"keys": [rsa.OTHER_KEY.jwk()]}
        return response

    provider.alter["jwks"] = alter


def jwk(**values: Any) -> Install:
    """Change the one key of the JWKS."""

    def install(provider: FakeProvider) -> None:
        provider.alter["jwks"] = lambda _: ServerResponse(body={"keys": [{**rsa.KEY.jwk(), **values}]})

    return install


ID_TOKEN = (
    takes("idt-ok", nothing),
    refuses("idt-iss", claim("iss", "https://evil.example"), "iss is 'https://evil.example'"),
    refuses("idt-iss-slash", idt(lambda _, claims: claims.update(iss=claims["iss"] + "/")), "iss is"),
    refuses("idt-no-iss", claim("iss"), "iss is 'None'"),
    refuses("idt-no-sub", claim("sub"), "no sub"),
    refuses("idt-sub-empty", claim("sub", ""), "sub is not"),
    refuses("idt-sub-type", claim("sub", 7), "sub is not"),
    refuses("idt-aud", claim("aud", "other"), "aud is 'other'"),
    refuses("idt-no-aud", claim("aud"), "no aud"),
    refuses("idt-aud-empty", claim("aud", []), "aud is '[]'"),
    refuses("idt-aud-type", claim("aud", {"cli": 1}), "aud is neither"),
    takes("idt-aud-array", claim("aud", ["cli"])),
    refuses("idt-aud-extra", claim("aud", ["cli", "other"]), "aud names other clients"),
    takes("idt-aud-extra-azp", idt(lambda _, claims: claims.update(aud=["other", "cli"], azp="cli"))),
    takes("idt-azp-ok", claim("azp", "cli")),
    refuses("idt-azp", claim("azp", "other"), "azp is 'other'"),
    refuses("idt-no-exp", claim("exp"), "no exp"),
    refuses("idt-exp", later("exp", -121), "expired"),
    takes("idt-exp-leeway", later("exp", -60)),
    refuses("idt-exp-type", claim("exp", "tomorrow"), "exp is not a point in time"),
    refuses("idt-exp-bool", claim("exp", True), "exp is not a point in time"),
    refuses(
        "idt-exp-infinite",
        raw_claims(lambda data: data.replace(b'"exp": 1', b'"exp": 1e99999, "x": 1')),
        "exp",
    ),
    refuses("idt-no-iat", claim("iat"), "no iat"),
    refuses("idt-iat-future", later("iat", 1000), "in the future"),
    takes("idt-iat-skewed", later("iat", 100)),
    takes("idt-iat-old", later("iat", -7 * 86400)),
    refuses("idt-iat-type", claim("iat", "now"), "iat is not a point in time"),
    refuses("idt-nbf-future", later("nbf", 1000), "not valid yet"),
    refuses("idt-nonce", claim("nonce", "wrong"), "nonce is not"),
    refuses("idt-no-nonce", claim("nonce"), "no nonce"),
    refuses("idt-nonce-type", claim("nonce", 7), "nonce is not"),
    refuses("idt-at-hash", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), "at_hash"),
    refuses("idt-alg-none", idt(unsigned), "'none'"),
    refuses("idt-alg-none-case", header(alg="nOnE"), "'nOnE'"),
    refuses("idt-alg-hs256", header(alg="HS256"), "'HS256'"),
    refuses("idt-no-alg", idt(no_alg), "no algorithm"),
    takes("idt-alg-es256", header(alg="ES256")),
    refuses("idt-sig", idt(broken_signature), "signature is wrong"),
    refuses("idt-sig-other-key", idt(signed_by_another), "signature is wrong"),
    refuses(
        "idt-sig-empty",
        idt(lambda h, c: rsa.jwt(h, c, rsa.KEY).rpartition(".")[0] + "."),
        "signature is wrong",
    ),
    takes("idt-kid-none", idt(no_kid)),
    takes("idt-kid-multi", two_keys_no_kid),
    refuses("idt-kid-unknown", header(kid="key-9"), "no RSA key 'key-9'"),
    takes("idt-kid-late", key_appears_late),
    refuses("idt-crit", header(crit=["exp"]), "crit"),
    refuses("idt-jwks-html", returns("jwks", body=HTML), "web page"),
    refuses("idt-jwks-type", returns("jwks", body={"keys": "none"}), "no list of keys"),
    refuses("idt-jwks-empty", returns("jwks", body={"keys": [7, {}]}), "no RSA key"),
    refuses("idt-key-short", jwk(n=rsa.b64(b"\xff" * 128)), "shorter than 2048 bits"),
    refuses("idt-key-long", jwk(n=rsa.b64(b"\xff" * 4096)), "too large"),
    refuses("idt-key-e-one", jwk(e="AQ"), "no RSA key has"),
    refuses("idt-key-e-even", jwk(e="AAI"), "no RSA key has"),
    refuses("idt-key-not-base64", jwk(n="+/=="), "is not an RSA key"),
    refuses("idt-key-for-encryption", jwk(use="enc"), "no RSA key"),
    refuses("idt-two-parts", idt(lambda h, c: rsa.jwt(h, c, rsa.KEY).rpartition(".")[0]), "three parts"),
    refuses("idt-encrypted", idt(lambda h, c: rsa.jwt(h, c, rsa.KEY) + ".a.b"), "three parts"),
    refuses("idt-not-base64", idt(lambda h, c: "!" + rsa.jwt(h, c, rsa.KEY)), "not base64url"),
    refuses("idt-array", raw_claims(lambda data: b"[" + data + b"]"), "not a JSON object"),
    refuses("idt-dup", raw_claims(lambda data: data[:-1] + b', "aud": "x"}'), "'aud' twice"),
    refuses("idt-deep", raw_claims(lambda data: b'{"x":' + DEEP), "nested too deeply"),
)
