"""Which URLs of a provider we are willing to use.

They come from a server and end up in a browser's command line and in connections that
carry a code or a token. So: https (http only on loopback, and only for an issuer that is
itself http on loopback), a host, no user info, no fragment, and plain URL bytes only. What a
shell or a browser launcher could take for its own (`$(…)`, quotes, a leading `-`,
`%action`) is refused although some of it is legal in a URL: no provider needs it.

Pure.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from thv_llm.errors import shown
from thv_llm.oidc.failures import UntrustedAnswerError
from thv_llm.validation import LOOPBACK_HOSTS

MAX_URL_CHARACTERS = 2048  # of an endpoint; no provider comes near it, and browsers take it

_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][A-Za-z0-9._~:/?@&=+,;%-]*)?"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%action|%0[0ad]", re.IGNORECASE)


def checked(name: str, url: object, *, issuer: str) -> str:
    """Return an endpoint's URL, or say which member of the metadata cannot be used and why.

    Raises:
        UntrustedAnswerError: nothing may be sent to this URL, and no process may see it.

    Source: RFC 6749 section 3.1; CVE-2025-6514, CVE-2026-4519, CVE-2026-4786.
    """
    problem = _problem(url, allow_http=is_loopback_http(issuer))
    if problem:
        raise UntrustedAnswerError(
            "cannot use what the provider says of itself",
            why=f"{name} {problem}: {shown(url)}",
            next_step="check the issuer; tell the people who run the provider",
        )
    return str(url)


def parts(url: str) -> SplitResult:
    """Return the parts of a URL of ours or one that was `checked`.

    Raises:
        UntrustedAnswerError: it is not one that we may connect to.
    """
    return urlsplit(checked("URL", url, issuer=url))


def is_loopback_http(url: str) -> bool:
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
    if not url.startswith("https://") and not (allow_http and is_loopback_http(url)):
        return "is not an https URL"
    if not _URL.fullmatch(url) or _BAD_ESCAPE.search(url):
        return "holds characters that do not belong there"
    try:
        return "" if urlsplit(url).port != 0 else "has port 0"
    except ValueError:
        return "has a bad port"
