"""Requests to the provider: JSON over https, without redirects.

Rule 1: the limits are those of `net.http_client`.
Rule 2: a redirect is never followed; its host is named in the error.
Rule 3: TLS is always verified. `tls_skip_verify` is for the gateway and never comes here.
Rule 4: an error names the host and what is wrong, and nothing of the response's text.
Rule 5: URLs come from a server and end up in a browser's command line and in connections that carry a code
        or a token. So: https (http only on loopback, and only for an issuer that is itself http on
        loopback), a host, no user info, no fragment, and plain URL bytes only. What a shell or a browser
        launcher could interpret (`$(…)`, quotes, a leading `-`, `%action`) is refused although some of it
        is legal in a URL: no provider needs it.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus, urlencode, urlsplit

from thv_llm.errors import InvalidResponseError, shown
from thv_llm.net.http_client import TIMEOUT_S, HttpClient, JsonObject, Response
from thv_llm.secret import Secret
from thv_llm.validation import LOOPBACK_HOSTS

MAX_URL_CHARACTERS = 2048  # of an endpoint; no provider comes near it, and browsers take it

_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][A-Za-z0-9._~:/?@&=+,;%-]*)?"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%action|%0[0ad]", re.IGNORECASE)


class Provider:
    """Requests to one provider.

    Args:
        ca_file: certificate authorities to trust besides the system's; "" for none.
        environ: where `HTTPS_PROXY`, `NO_PROXY` and `SSL_CERT_FILE` are looked up.
        timeout_s: for each request, from name resolution to the last byte.
        context: gives the TLS context, where one is in the making already (`tls.begun`).
        client_secret: reads the client's secret, where it has one; asked at each request that needs it.
    """

    def __init__(
        self,
        ca_file: str,
        environ: Mapping[str, str],
        *,
        timeout_s: float = TIMEOUT_S,
        context: Callable[[], ssl.SSLContext] | None = None,
        client_secret: Callable[[], Secret | None] = lambda: None,
    ) -> None:
        self._client_secret = client_secret
        self._client = HttpClient(ca_file, environ=environ, timeout_s=timeout_s, context=context)

    def authentication(self) -> dict[str, str | Secret]:
        """Return the field of a form that authenticates the client; none for a public one."""
        secret = self._client_secret()
        return {"client_secret": secret} if secret else {}

    def get(self, url: str, *, token: Secret | None = None) -> Response:
        """Fetch a document, whatever its status.

        Raises:
            NoResponseError: nothing usable came back.
        """
        return self._send("GET", url, {"Authorization": f"Bearer {token.reveal()}"} if token else {})

    def get_json(self, url: str) -> JsonObject:
        """Fetch a JSON object.

        Raises:
            NoResponseError: nothing came back.
            InvalidResponseError: something else came back.
        """
        return expect_json(self.get(url), what=f"cannot read {url}")

    def post_form(self, url: str, fields: Mapping[str, str | Secret], *, is_basic: bool = False) -> Response:
        """Send a form; empty fields are left out.

        Args:
            is_basic: its `client_secret`, if it has one, goes into `Authorization` (RFC 6749 section 2.3.1).

        Raises:
            NoResponseError: nothing usable came back; `maybe_sent` says whether it can have arrived.
        """
        pairs = {
            name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if is_basic and (secret := pairs.pop("client_secret", "")):
            pair = f"{quote_plus(pairs['client_id'])}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        form = urlencode({name: value for name, value in pairs.items() if value})
        return self._send("POST", url, headers, form.encode())

    def _send(self, method: str, url: str, headers: dict[str, str], form: bytes | None = None) -> Response:
        host = urlsplit(checked_url("URL", url, issuer=url)).hostname
        what = f"cannot reach the provider at {host}"
        return self._client.send(method, url, what=what, headers=headers, body=form)


def expect_json(response: Response, *, what: str) -> JsonObject:
    """Return the object of a 200 response, or say what was there instead.

    Raises:
        InvalidResponseError: another status, a redirect, a web page, no JSON object.
    """
    if response.status == 200 and response.json is not None:
        return response.json
    why, next_step = describe(response)
    raise InvalidResponseError(what, why=why, next_step=next_step or "try again later")


def describe(response: Response) -> tuple[str, str]:
    """Say what is wrong with a response that is not the expected one: reason; next step, perhaps empty."""
    portal = "if a browser shows a network's login page, log in there; else check HTTPS_PROXY and the issuer"
    host, status = response.host, response.status
    if 300 <= status < 400:
        there = _host_of(response.headers.get("location", "")) or "another page"
        return f"{host} redirects to {shown(there)}, which an OIDC endpoint never does", portal
    if status >= 400 and status != 511:  # RFC 6585: the status of a network that wants a login
        return f"{host} returned HTTP {status}", ""
    is_page = response.body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html"))
    if is_page or "html" in response.headers.get("content-type", ""):
        return f"{host} returned a web page (HTTP {status}) instead of JSON", portal
    if status != 200:
        return f"{host} returned HTTP {status}", ""
    return f"the response of {host} {response.problem}", "check the issuer"


def _host_of(location: str) -> str:
    try:
        return urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def checked_url(name: str, url: object, *, issuer: str) -> str:
    """Return an endpoint's URL, or say which member of the metadata cannot be used and why.

    Raises:
        InvalidResponseError: nothing must be sent to this URL, and no process must see it.

    Source: RFC 6749 section 3.1; CVE-2025-6514, CVE-2026-4519, CVE-2026-4786.
    """
    problem = _problem(url, allow_http=_is_loopback_http(issuer))
    if problem:
        raise InvalidResponseError(
            "cannot use the provider's metadata",
            why=f"{name} {problem}: {shown(url)}",
            next_step="check the issuer; if it is right, contact your administrator",
        )
    return str(url)


def _is_loopback_http(url: str) -> bool:
    """Tell whether the URL is plain http to this very machine, as in a test."""
    try:
        split = urlsplit(url)
        return split.scheme == "http" and split.hostname in LOOPBACK_HOSTS
    except ValueError:
        return False


def _problem(url: object, *, allow_http: bool) -> str:
    if not isinstance(url, str):
        return "is not a string"
    if len(url) > MAX_URL_CHARACTERS:
        return f"is longer than {MAX_URL_CHARACTERS} characters"
    if not url.startswith("https://") and not (allow_http and _is_loopback_http(url)):
        return "is not an https URL"
    if not _URL.fullmatch(url) or _BAD_ESCAPE.search(url):
        return "holds characters that do not belong there"
    try:
        return "" if urlsplit(url).port != 0 else "has port 0"
    except ValueError:
        return "has a bad port"
