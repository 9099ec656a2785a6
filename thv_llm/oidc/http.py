"""The only door to the provider: JSON over https, with limits, without redirects.

Rule 1: one deadline for a whole request (`oidc.exchange`), at most 1 MB of answer.
Rule 2: a redirect is never followed; whoever wants one is named in the error.
Rule 3: TLS is always verified. `tls_skip_verify` is for the gateway and never comes here.
Rule 4: what goes wrong is said with the host's name and nothing of the answer's text.
"""

from __future__ import annotations

import functools
import http.client
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from thv_llm import __version__, env_proxy, tls
from thv_llm.errors import shown
from thv_llm.oidc import endpoint, strict_json
from thv_llm.oidc.exchange import MAX_BODY_BYTES, Answer, Exchange, Request, TooLargeError
from thv_llm.oidc.failures import NoAnswerError, UntrustedAnswerError
from thv_llm.oidc.strict_json import JsonObject
from thv_llm.secret import Secret

TIMEOUT_S = 10.0


class Reply(NamedTuple):
    """One answer of the provider.

    Attributes:
        host: who answered.
        headers: lower-case names.
        json: the object in the body, None when the body is no JSON object.
        problem: why `json` is None, in words.
        is_empty: there was no body at all.
    """

    host: str
    status: int
    headers: Mapping[str, str]
    json: JsonObject | None
    problem: str = ""
    is_empty: bool = False

    def __repr__(self) -> str:
        """Tell no more than who answered how: a token may be in the rest."""
        return f"Reply(host={self.host!r}, status={self.status})"


class Provider:
    """Requests to one provider.

    Args:
        ca_file: certificate authorities to trust besides the system's; "" for none.
        environ: where `HTTPS_PROXY`, `NO_PROXY` and `SSL_CERT_FILE` are looked up.
        timeout_s: for each request, from name resolution to the last byte.
        context: gives the TLS context, where one is in the making already (`tls.begun`).
    """

    def __init__(
        self,
        ca_file: str,
        environ: Mapping[str, str],
        *,
        timeout_s: float = TIMEOUT_S,
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._environ = environ
        self._timeout_s = timeout_s
        self._context = functools.cache(context or (lambda: tls.client_context(ca_file, environ=environ)))

    def get(self, url: str) -> Reply:
        """Fetch a document, whatever its status.

        Raises:
            NoAnswerError: nothing usable came back.
        """
        return self._exchange("GET", url, None)

    def get_json(self, url: str) -> JsonObject:
        """Fetch a JSON object.

        Raises:
            NoAnswerError: nothing came back.
            UntrustedAnswerError: something else came back.
        """
        return expect_json(self.get(url), what=f"cannot read {url}")

    def post_form(self, url: str, fields: Mapping[str, str | Secret]) -> Reply:
        """Send a form; empty fields are left out.

        Raises:
            NoAnswerError: nothing usable came back; `maybe_sent` says whether it may have arrived.
        """
        pairs = {
            name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()
        }
        form = urlencode({name: value for name, value in pairs.items() if value})
        return self._exchange("POST", url, form.encode())

    def _exchange(self, method: str, url: str, form: bytes | None) -> Reply:
        headers = {
            "User-Agent": f"thv-llm/{__version__}",
            "Accept": "application/json",
            "Connection": "close",
        }
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        request = Request(method, endpoint.parts(url), headers, form)
        is_https = request.url.scheme == "https"
        proxy = env_proxy.for_https(request.host, request.port, self._environ) if is_https else None
        exchange = Exchange(request, context=self._context() if is_https else None, proxy=proxy)
        try:
            answer = exchange.run(self._timeout_s)
        except (OSError, http.client.HTTPException, TooLargeError, ValueError) as error:
            raise self._failure(error, request, proxy, exchange.maybe_sent) from None
        return _reply(request.host, answer)

    def _failure(
        self, error: Exception, request: Request, proxy: env_proxy.EnvProxy | None, maybe_sent: bool
    ) -> NoAnswerError:
        what = f"cannot reach the provider at {request.host}"
        if isinstance(error, ssl.SSLCertVerificationError):
            from thv_llm.oidc import tls_trouble

            why, next_step = tls_trouble.explain(error, request.host)
            return NoAnswerError(what, why=why, next_step=next_step)
        why, next_step = _reason(error, request.host, proxy, self._timeout_s)
        return NoAnswerError(what, why=why, next_step=next_step, maybe_sent=maybe_sent)


def expect_json(reply: Reply, *, what: str) -> JsonObject:
    """Return the object of a 200 reply, or say what was there instead.

    Raises:
        UntrustedAnswerError: another status, a redirect, a web page, no JSON object.
    """
    if reply.status == 200 and reply.json is not None:
        return reply.json
    why, next_step = describe(reply)
    raise UntrustedAnswerError(what, why=why, next_step=next_step)


def describe(reply: Reply) -> tuple[str, str]:
    """Say what is odd about a reply that is not what was asked for: reason, next step."""
    portal = "if a browser shows a network's login page, log in there; else check HTTPS_PROXY and the issuer"
    if 300 <= reply.status < 400:
        there = _host_of(reply.headers.get("location", "")) or "another page"
        return f"{reply.host} redirects to {shown(there)}, which an OIDC endpoint never does", portal
    if "html" in reply.headers.get("content-type", "") or reply.problem == "is a web page":
        return f"{reply.host} answered with a web page (status {reply.status}) instead of JSON", portal
    if reply.status != 200:
        return f"{reply.host} answered with status {reply.status}", "try again later"
    return f"the answer of {reply.host} {reply.problem}", "check the issuer"


def _host_of(location: str) -> str:
    try:
        return urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _reply(host: str, answer: Answer) -> Reply:
    try:
        value, problem = strict_json.parse(answer.body), ""
    except ValueError as error:
        value, problem = None, str(error)
        if answer.body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
            problem = "is a web page"
    return Reply(host, answer.status, answer.headers, value, problem, not answer.body.strip())


def _reason(
    error: Exception, host: str, proxy: env_proxy.EnvProxy | None, timeout_s: float
) -> tuple[str, str]:
    """Put a failure into words; `str(error)` may carry what the server sent, so it is not used."""
    check = "check the network; try again later"
    if isinstance(error, TimeoutError):
        return f"no complete answer within {timeout_s:g} s", check
    if isinstance(error, TooLargeError):
        return f"the answer is larger than {MAX_BODY_BYTES >> 20} MB", "check the issuer"
    if isinstance(error, socket.gaierror):
        return f"there is no host {proxy.host if proxy else host}", "check the address and the network"
    if proxy and str(error).startswith("Tunnel connection failed: 407"):
        return (
            f"the proxy {proxy.host} asks for a user name and a password",
            "set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT",
        )
    if proxy and str(error).startswith("Tunnel connection failed"):
        return f"the proxy {proxy.host} does not let us through to {host}", "check HTTPS_PROXY and NO_PROXY"
    if isinstance(error, ssl.SSLError):
        from thv_llm.oidc import tls_trouble

        return tls_trouble.explain_protocol(error, host)
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there (connection refused)", check
    if isinstance(error, OSError) and error.strerror and not isinstance(error, http.client.HTTPException):
        return error.strerror.lower(), check
    return f"the connection broke off, or it does not speak HTTP ({type(error).__name__})", check
