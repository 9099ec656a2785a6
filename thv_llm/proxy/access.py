"""Who may use the proxy: the rules a request's head has to meet before its body is read.

A web page in the user's browser can send requests to 127.0.0.1, other users of the machine can
connect to it, and a name that a stranger controls can resolve to it. Each rule below closes one
of these ways by itself; a random key, which only the wired clients know, closes all of them.

Pure: a head in, where it may go or `Rejected` out.
"""

from __future__ import annotations

import hmac

from thv_llm.proxy import headers, http1
from thv_llm.proxy.http1 import Fields, Rejected, RequestHead
from thv_llm.secret import Secret

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""TRACE would hand our token back in the response; CONNECT would open a tunnel to anywhere."""
HOSTS = (b"127.0.0.1", b"localhost", b"[::1]")
HEALTH = b"/healthz"
NO_KEY = "this needs the local key, which `thv-llm setup` writes into the tools' settings"


class Rules:
    """What a request has to meet.

    Args:
        port: the one we listen on.
        key: what a client has to know; None asks for nothing.
    """

    def __init__(self, port: int, key: Secret | None) -> None:
        self._hosts = frozenset(b"%b:%d" % (host, port) for host in HOSTS)
        self._key = key

    def check(self, head: RequestHead) -> http1.Target:
        """Return the request's target when it may pass.

        Raises:
            Rejected: 400, 401, 403, 405 or 417.
        """
        self._check_host(head.fields)
        _check_no_page(head.fields)
        if head.method not in METHODS:
            raise Rejected(405, "method not allowed")
        target = http1.parse_target(head.target)
        if target.path == HEALTH:
            return target
        if self._key is not None and not self._has_key(head.fields, target):
            raise Rejected(401, NO_KEY)
        expected = head.fields.values(b"expect")
        if expected and [value.lower() for value in expected] != [b"100-continue"]:
            raise Rejected(417, "unknown expectation")
        return target

    def _check_host(self, fields: Fields) -> None:
        """Refuse names that a stranger could have made to resolve to us (DNS rebinding)."""
        found = fields.values(b"host")
        if len(found) != 1 or not found[0]:
            raise Rejected(400, "a request needs exactly one Host header")
        if found[0].lower() not in self._hosts:
            raise Rejected(403, "Host is not this proxy's address")

    def _has_key(self, fields: Fields, target: http1.Target) -> bool:
        """Compare every candidate in constant time, all of them."""
        assert self._key is not None
        key = self._key.reveal().encode()
        found = [hmac.compare_digest(candidate, key) for candidate in [*_keys(fields), *target.keys]]
        return any(found)


def _check_no_page(fields: Fields) -> None:
    """Refuse what a page in a browser sends. No client that is wired runs in a page."""
    if fields.values(b"origin"):
        raise Rejected(403, "requests of web pages are refused (Origin)")
    if not {b"none", b"same-origin"}.issuperset(fields.values(b"sec-fetch-site")):
        raise Rejected(403, "requests of web pages are refused (Sec-Fetch-Site)")


def _keys(fields: Fields) -> list[bytes]:
    found = []
    for name in headers.CREDENTIALS:
        for value in fields.values(name):
            if name != b"authorization":
                found.append(value)
            elif value[:7].lower() == b"bearer ":
                found.append(value[7:].strip(b" "))
    return found
