"""Misbehaviors of the metadata document, of the redirect, and of the token response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes.provider import FakeProvider, Pairs
from tests.fakes.web import ServerResponse
from tests.oidc.modes import (
    DEEP,
    HTML,
    HUGE,
    Install,
    Mode,
    cut,
    dripping,
    member,
    nothing,
    refuses,
    returns,
    rewritten,
    takes,
    twice,
)


def disc(name: str, value: Any = None) -> Install:
    return member("discovery", name, value)


def shifted_issuer(change: Callable[[str], str]) -> Install:
    def install(provider: FakeProvider) -> None:
        member("discovery", "issuer", change(provider.issuer))(provider)

    return install


def oauth_metadata_only(provider: FakeProvider) -> None:
    provider.alter["discovery"] = lambda _: ServerResponse(404, HTML)


DISCOVERY = (
    takes("disc-ok", nothing),
    refuses("disc-issuer-mismatch", disc("issuer", "https://evil.example"), "'https://evil.example'"),
    refuses("disc-issuer-slash", disc("issuer", "{}/"), "character for character"),
    refuses(
        "disc-issuer-case", shifted_issuer(lambda url: url.replace("https", "HTTPS")), "names the issuer"
    ),
    refuses("disc-issuer-type", disc("issuer", 7), "names the issuer '7'"),
    refuses("disc-no-issuer", disc("issuer"), "names no issuer"),
    refuses("disc-huge", returns("discovery", body=HUGE), "larger than 1 MB"),
    refuses("disc-slow", dripping("discovery"), "no complete response from"),
    refuses("disc-deep", returns("discovery", body=DEEP), "nested too deeply"),
    refuses("disc-array", returns("discovery", body=["x"]), "not a JSON object"),
    refuses("disc-dup", rewritten("discovery", twice), "'issuer' twice"),
    refuses("disc-not-json", returns("discovery", body=b"{oops"), "is not JSON"),
    refuses("disc-not-utf8", returns("discovery", body=b'{"issuer": "\xff"}'), "is not JSON"),
    refuses("disc-huge-number", returns("discovery", body=b'{"x": ' + b"9" * 9000 + b"}"), "is not JSON"),
    refuses("disc-empty", returns("discovery", body=b""), "is not JSON"),
    refuses("disc-html", returns("discovery", body=HTML), "web page"),
    refuses("disc-html-as-json", returns("discovery", body=HTML.encode()), "web page"),
    refuses(
        "disc-redirect", returns("discovery", 302, headers={"Location": "https://evil.example/x"}), "evil"
    ),
    refuses("disc-redirect-here", returns("discovery", 307, headers={"Location": "/elsewhere"}), "redirects"),
    refuses("disc-500", returns("discovery", 500, HTML), "HTTP 500"),
    refuses("disc-cut", cut("discovery"), "was complete"),
    refuses("disc-reset", returns("discovery", raw=b""), "was complete"),
    refuses("disc-not-http", returns("discovery", raw=b"220 smtp ready\r\n"), "does not speak HTTP"),
    takes("disc-oauth-only", oauth_metadata_only),
    refuses("disc-types", disc("token_endpoint", 7), "token_endpoint is not a string"),
    refuses("disc-types-list", disc("jwks_uri", ["{}/jwks"]), "jwks_uri is not a string"),
    refuses("disc-iss-type", disc("authorization_response_iss_parameter_supported", "yes"), "true or false"),
    refuses("disc-methods-type", disc("code_challenge_methods_supported", "S256"), "not a list"),
    refuses("disc-no-s256", disc("code_challenge_methods_supported", ["plain"]), "lacks S256"),
    takes("disc-no-methods", disc("code_challenge_methods_supported")),
    refuses("disc-no-token", disc("token_endpoint"), "no token_endpoint"),
    refuses("disc-no-authz", disc("authorization_endpoint"), "no authorization_endpoint"),
    takes("disc-no-jwks", disc("jwks_uri")),
    refuses("disc-js-authz", disc("authorization_endpoint", "javascript:alert(1)"), "not an https URL"),
    refuses("disc-file-authz", disc("authorization_endpoint", "file:///etc/passwd"), "not an https URL"),
    refuses("disc-dash-authz", disc("authorization_endpoint", "-new-window https://x"), "not an https URL"),
    refuses("disc-shell-authz", disc("authorization_endpoint", "{}/$(id)"), "do not belong"),
    refuses("disc-action-authz", disc("authorization_endpoint", "{}/%action"), "do not belong"),
    refuses("disc-s-authz", disc("authorization_endpoint", "{}/%s"), "do not belong"),
    refuses("disc-space-authz", disc("authorization_endpoint", "{}/ --incognito"), "do not belong"),
    refuses("disc-quote-authz", disc("authorization_endpoint", "{}/'\"`"), "do not belong"),
    refuses("disc-control-authz", disc("authorization_endpoint", "{}/\x1b[2J"), "do not belong"),
    refuses(
        "disc-backslash-authz", disc("authorization_endpoint", "https://a.example\\@b.example"), "belong"
    ),
    refuses("disc-http-token", disc("token_endpoint", "http://idp.example/token"), "not an https URL"),
    refuses("disc-http-loopback", disc("token_endpoint", "http://127.0.0.1:1/token"), "not an https URL"),
    refuses("disc-crlf-token", disc("token_endpoint", "{}/token\r\nX: y"), "do not belong"),
    refuses("disc-userinfo-token", disc("token_endpoint", "https://a@b.example/"), "do not belong"),
    refuses("disc-fragment-token", disc("token_endpoint", "{}/token#x"), "do not belong"),
    refuses("disc-port-token", disc("token_endpoint", "https://a.example:99999/"), "bad port"),
    refuses("disc-no-host-token", disc("token_endpoint", "https:///token"), "do not belong"),
    refuses("disc-idn-token", disc("token_endpoint", "https://idр.example/token"), "do not belong"),
    takes("disc-http-revoke", disc("revocation_endpoint", "http://idp.example/")),
    takes("disc-odd-revoke", disc("revocation_endpoint", ["{}/revoke"])),
    takes("disc-http-end", disc("end_session_endpoint", "http://idp.example/logout")),
    takes("disc-mark-end", disc("end_session_endpoint", "{}/logout!")),
    takes("disc-idn-end", disc("end_session_endpoint", "https://idр.example/logout")),
    takes("disc-odd-device", disc("device_authorization_endpoint", 7)),
    refuses("disc-http-jwks", disc("jwks_uri", "http://idp.example/jwks"), "jwks_uri is not an https URL"),
    takes("disc-query-token", disc("token_endpoint", "{}/token?tenant=a&policy=b")),
    takes("disc-query-authz", disc("authorization_endpoint", "{}/authorize?policy=b")),
    takes("disc-bom", rewritten("discovery", lambda data: b"\xef\xbb\xbf" + data)),
)


def cb(change: Callable[[Pairs], Pairs]) -> Install:
    def install(provider: FakeProvider) -> None:
        provider.alter_callback = change

    return install


def setting(**values: str) -> Callable[[Pairs], Pairs]:
    """Replace values in the redirect; an empty one stays, as an empty one."""
    return lambda pairs: [(name, values.get(name, value)) for name, value in pairs]


def without(name: str) -> Callable[[Pairs], Pairs]:
    return lambda pairs: [pair for pair in pairs if pair[0] != name]


def doubled(name: str) -> Callable[[Pairs], Pairs]:
    return lambda pairs: [*pairs, *(pair for pair in pairs if pair[0] == name)]


def error(description: str = "", **changes: str) -> Callable[[Pairs], Pairs]:
    """Respond with an error instead of a code."""

    def change(pairs: Pairs) -> Pairs:
        said = [("error", "access_denied"), ("error_description", description)]
        return [*said, *((name, changes.get(name, value)) for name, value in pairs if name != "code")]

    return change


def iss_not_announced(provider: FakeProvider) -> None:
    member("discovery", "authorization_response_iss_parameter_supported")(provider)
    provider.alter_callback = without("iss")


def iss_not_announced_but_wrong(provider: FakeProvider) -> None:
    member("discovery", "authorization_response_iss_parameter_supported")(provider)
    provider.alter_callback = setting(iss="https://evil.example")


IGNORED = "ignored: the login goes on"


def ignores(name: str, change: Callable[[Pairs], Pairs]) -> Mode:
    """Send the browser back with no authorization response; the next time it is the right one."""

    def install(provider: FakeProvider) -> None:
        provider.alter_callback = lambda pairs: change(pairs) if provider.count("authorize") == 1 else pairs

    return Mode(name, install, IGNORED)


CALLBACK = (
    takes("cb-ok", nothing),
    ignores("cb-state-wrong", setting(state="wrong")),
    ignores("cb-state-missing", without("state")),
    ignores("cb-state-empty", setting(state="")),
    ignores("cb-state-twice", doubled("state")),
    ignores("cb-state-two", lambda pairs: [*pairs, ("state", "x")]),
    ignores("cb-error-nostate", lambda pairs: [("error", "access_denied")]),
    ignores("cb-many-fields", lambda pairs: [*pairs, *[("x", "y")] * 99]),
    refuses("cb-code-twice", cb(doubled("code")), "two codes"),
    refuses("cb-code-two", cb(lambda pairs: [*pairs, ("code", "evil")]), "two codes"),
    refuses("cb-no-code", cb(without("code")), "no code"),
    refuses("cb-code-empty", cb(setting(code="")), "no code"),
    refuses("cb-iss-wrong", cb(setting(iss="https://evil.example")), "'https://evil.example'"),
    refuses("cb-iss-missing", cb(without("iss")), "does not say which issuer"),
    refuses("cb-iss-twice", cb(doubled("iss")), "two issuers"),
    takes("cb-iss-not-announced", iss_not_announced),
    refuses("cb-iss-not-announced-wrong", iss_not_announced_but_wrong, "'https://evil.example'"),
    refuses("cb-error", cb(error("not today")), "'access_denied': 'not today'"),
    refuses("cb-error-html", cb(error("<script>alert(1)</script>")), "<script>"),
    refuses("cb-error-escape", cb(error("\x1b]0;pwned\x07\x1b[2J")), "\\x1b]0;pwned"),
    refuses("cb-error-iss-wrong", cb(error(iss="https://evil.example")), "'https://evil.example'"),
    refuses("cb-error-and-code", cb(lambda pairs: [*pairs, ("error", "server_error")]), "'server_error'"),
)


def tok(name: str, value: Any = None) -> Install:
    return member("token", name, value)


TOKEN = (
    takes("tok-ok", nothing),
    takes("tok-type-lower", tok("token_type", "bearer")),
    takes("tok-type-upper", tok("token_type", "BEARER")),
    refuses("tok-type-mac", tok("token_type", "mac"), "'mac', not Bearer"),
    refuses("tok-type-dpop", tok("token_type", "DPoP"), "'DPoP', not Bearer"),
    refuses("tok-no-type", tok("token_type"), "token_type"),
    refuses("tok-no-access", tok("access_token"), "no access_token"),
    refuses("tok-access-empty", tok("access_token", ""), "access_token is empty"),
    refuses("tok-access-type", tok("access_token", 7), "access_token is not a string"),
    refuses("tok-access-crlf", tok("access_token", "a\r\nX-Evil: 1"), "access_token holds"),
    refuses("tok-access-nul", tok("access_token", "a\x00b"), "access_token holds"),
    refuses("tok-access-escape", tok("access_token", "a\x1b[2Jb"), "access_token holds"),
    refuses("tok-access-space", tok("access_token", "a b"), "access_token holds"),
    refuses("tok-access-unicode", tok("access_token", "schlüssel"), "access_token holds"),
    refuses("tok-refresh-type", tok("refresh_token", 7), "refresh_token is not a string"),
    refuses("tok-refresh-newline", tok("refresh_token", "a\nb"), "refresh_token holds"),
    refuses("tok-idt-type", tok("id_token", {"sub": "x"}), "id_token is not a string"),
    takes("tok-expires-missing", tok("expires_in")),
    takes("tok-expires-string", tok("expires_in", "3600")),
    takes("tok-expires-zero", tok("expires_in", 0)),
    takes("tok-expires-negative", tok("expires_in", -5)),
    takes("tok-expires-huge", tok("expires_in", 10**40)),
    takes("tok-expires-odd", tok("expires_in", {"minutes": 5})),
    takes("tok-no-rt", tok("refresh_token")),
    takes("tok-rt-empty", tok("refresh_token", "")),
    refuses("tok-dup", rewritten("token", twice), "'access_token' twice"),
    refuses("tok-array", returns("token", body=["x"]), "not a JSON object"),
    refuses("tok-huge", returns("token", body=HUGE), "larger than 1 MB"),
    refuses("tok-deep", returns("token", body=DEEP), "nested too deeply"),
    refuses("tok-html", returns("token", body=HTML), "web page"),
    refuses("tok-empty", returns("token", body=b""), "is not JSON"),
    refuses("tok-cut", cut("token"), "was complete"),
    refuses("tok-slow", dripping("token"), "no complete response from"),
    refuses(
        "tok-redirect", returns("token", 307, headers={"Location": "https://evil.example/"}), "redirects"
    ),
    refuses("tok-201", returns("token", 201, {"access_token": "x", "token_type": "Bearer"}), "HTTP 201"),
    refuses("tok-500", returns("token", 500, HTML), "HTTP 500"),
    refuses("tok-invalid-grant", returns("token", 400, {"error": "invalid_grant"}), "'invalid_grant'"),
    refuses("tok-invalid-client", returns("token", 401, {"error": "invalid_client"}), "public client"),
    refuses("tok-error-type", returns("token", 400, {"error": ["x"]}), "HTTP 400"),
    refuses("tok-error-escape", returns("token", 400, {"error": "\x1b[2J\n"}), "\\x1b[2J\\n"),
)
