"""Who can use the proxy: the rules that a request's head must meet before its body is read.

A web page in the user's browser can send requests to 127.0.0.1, other users of the machine can
connect to it, and a name that an attacker controls can resolve to it. Each rule below closes one
of these ways by itself; a random key, which only the wired clients know, closes all of them. Each
client has a key of its own, so the key tells whose request it is.

Pure, but for `Keys`, which reads the keys again: a head in, where it can go or `Rejected` out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from thv_llm.proxy import headers, http1
from thv_llm.proxy.http1 import Field, Fields, Rejected, RequestHead
from thv_llm.secret import Secret

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""TRACE would hand our token back in the response; CONNECT would open a tunnel to anywhere."""
HOSTS = (b"127.0.0.1", b"localhost", b"[::1]")
SAME_SITE = frozenset({b"none", b"same-origin"})
HEALTH = b"/healthz"
NO_KEY = "this needs the local key, which `thv-llm setup` writes into the tools' settings"


@dataclass(slots=True, repr=False, eq=False)
class Passed:
    """A request that has passed, for the next one that is the same but for its body: no rule looks
    at its head again.

    Attributes:
        head: the first one's; the length in it is not that of the others.
        tool: whose key it has; "" when that is unknown.
        known: the keys as they were.
        written: what goes to the gateway instead of the head, up to the framing of its body, made with
            `token` and `added`; empty when it must be made each time.
    """

    head: RequestHead
    target: http1.Target
    tool: str
    known: Mapping[bytes, str]
    written: bytes = b""
    token: Secret | None = None
    added: Sequence[Field] = ()


class Keys:
    """What the clients must know.

    Args:
        read: returns the keys, and whose each one is. It is called for each unknown one, so it must be
            quick while nothing has changed.
        also_secret: a key that no client must know, but which must not reach the gateway either.

    Attributes:
        known: the keys as they were read last; others are another mapping.
    """

    def __init__(self, read: Callable[[], Mapping[bytes, str]], also_secret: bytes = b"") -> None:
        self._read = read
        self._also_secret = also_secret
        self.known = read()

    def renew(self) -> bool:
        """Ask for the keys again; return whether they are others now."""
        found = self._read()
        changed = found != self.known
        if changed:
            self.known = found
        return changed

    def owner(self, candidates: Iterable[bytes]) -> str | None:
        """Return whose key is among the candidates, None when there is none."""
        # No timing tells of a key: a dict compares the bytes of two keys when their hashes are the same.
        for candidate in candidates:
            if candidate in self.known:
                return self.known[candidate]
        return None

    def are_in(self, text: bytes) -> bool:
        """Return whether one of the keys is in a text, also one that was made a moment ago."""
        if text.find(headers.KEY_MARK) < 0:
            return False
        return self._holds(text) or (self.renew() and self._holds(text))

    def _holds(self, text: bytes) -> bool:
        secret = self._also_secret
        return any(key in text for key in self.known) or bool(secret and secret in text)


class Rules:
    """What a request must meet.

    Args:
        port: the one we listen on.
        keys: one of which a client must know.
        require_key: False lets in clients that know none, too.
    """

    def __init__(self, port: int, keys: Keys, *, require_key: bool = True) -> None:
        self._hosts = frozenset(b"%b:%d" % (host, port) for host in HOSTS)
        self._keys = keys
        self._require_key = require_key

    def check(self, head: RequestHead) -> tuple[http1.Target, str]:
        """Return the request's target when it can pass, and whose key it has; "" when that is unknown.

        Raises:
            Rejected: 400, 401, 403, 405 or 417.
        """
        self._check_host(head.fields)
        _check_no_page(head.fields)
        if head.method not in METHODS:
            raise Rejected(405, "method not allowed")
        target = http1.parse_target(head.target)
        if target.path == HEALTH:
            return target, ""
        owner = self._owner(head.fields, target)
        if owner is None and self._require_key:
            raise Rejected(401, NO_KEY)
        expected = head.fields.values(b"expect")
        if expected and [value.lower() for value in expected] != [b"100-continue"]:
            raise Rejected(417, "unknown expectation")
        return target, owner or ""

    def whose(self, head: RequestHead) -> str:
        """Return whose key a refused request shows in its headers, "" for none."""
        return self._keys.owner(_candidates(head.fields)) or ""

    def _check_host(self, fields: Fields) -> None:
        """Refuse names that an attacker could have made to resolve to us (DNS rebinding)."""
        found = fields.values(b"host")
        if len(found) != 1 or not found[0]:
            raise Rejected(400, "a request needs exactly one Host header")
        if found[0].lower() not in self._hosts:
            raise Rejected(403, "Host is not this proxy's address")

    def _owner(self, fields: Fields, target: http1.Target) -> str | None:
        candidates = [*_candidates(fields), *target.keys]
        owner = self._keys.owner(candidates)
        if owner is None and candidates and self._keys.renew():
            owner = self._keys.owner(candidates)
        return owner


def _check_no_page(fields: Fields) -> None:
    """Refuse what a page in a browser sends. No client that is wired runs in a page."""
    if b"origin" in fields.named:
        raise Rejected(403, "requests of web pages are refused (Origin)")
    if not SAME_SITE.issuperset(fields.named.get(b"sec-fetch-site", ())):
        raise Rejected(403, "requests of web pages are refused (Sec-Fetch-Site)")


def _candidates(fields: Fields) -> list[bytes]:
    found = []
    for name in headers.CREDENTIALS & fields.named.keys():
        for value in fields.named[name]:
            if name != b"authorization":
                found.append(value)
            elif value[:7].lower() == b"bearer ":
                found.append(value[7:].strip(b" "))
    return found
