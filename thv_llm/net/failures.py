"""Why a request to a server failed, in words that a user can act on.

What decides is the class of an error and the codes of OpenSSL, never its text: texts differ from Python to
Python, and can hold what the server sent.

Pure, but for the date that it names.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from urllib.parse import urlsplit

from thv_llm import system
from thv_llm.net.dial import TunnelError

# The codes of OpenSSL's x509_vfy.h.
NOT_YET_VALID, EXPIRED = 9, 10
SELF_SIGNED = 18
UNKNOWN_AUTHORITY = frozenset({2, 19, 20, 21})
INVALID_AUTHORITY = frozenset({24, 25, 32, 79, 92})
WRONG_PURPOSE = 26
WEAK = frozenset({66, 67, 68})
WRONG_HOST = frozenset({62, 64})

# Reasons of OpenSSL's sslerr.h.
NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
)
OLD_TLS = frozenset(
    {
        "NO_PROTOCOLS_AVAILABLE",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "VERSION_TOO_LOW",
    }
)

OWN_AUTHORITY = "if your network has its own certificate authority: thv-llm setup --ca-file FILE"
CHECK_NETWORK = "check the network and the address; the saved one: thv-llm config show"
SET_PROXY = f"{system.setting_of('HTTPS_PROXY', 'http://HOST:PORT')} and run thv-llm setup"
CHECK_PROXY = (
    f"{SET_PROXY}; without a proxy: {system.unsetting_of('HTTPS_PROXY')} and run "
    'thv-llm setup --service-network ""'
)
PROXY_PASSWORD = f"{system.setting_of('HTTPS_PROXY', 'http://USER:PASSWORD@HOST:PORT')} and run thv-llm setup"
PROXY_LOGIN = (
    "ask your administrator for a proxy that takes a password, or have a local proxy log in (such as px "
    f"or cntlm); then: {SET_PROXY}"
)
CHECK_ADDRESS = "check the address; the saved one: thv-llm config show"

SIGN_IN = frozenset(
    {"login", "signin", "sign", "sso", "auth", "oauth", "oauth2", "authorize", "saml", "saml2"}
)
IN_FRONT = "a sign-in proxy stands in front of the gateway"
ASK_IN_FRONT = "ask the administrator to let requests with a token through to the gateway's API"


def explain(error: Exception, host: str, *, proxy: str = "", timeout_s: float) -> tuple[str, str]:
    """Return why a request to `host` got no response, and the next step.

    Args:
        error: what the socket, TLS or http.client raised.
        proxy: HOST:PORT of the HTTP proxy that the connection goes through, if any.
        timeout_s: how long the request was allowed to take.
    """
    match error:
        case TimeoutError():
            through = f" through the proxy {proxy}" if proxy else ""
            why = f"no complete response from {host}{through} within {timeout_s:g} s"
            return why, CHECK_PROXY if proxy else CHECK_NETWORK
        case ssl.SSLCertVerificationError():
            return _certificate(error, host)
        case TunnelError(status=407, has_basic=False):
            why = f"the proxy {proxy} requires a login other than by user name and password"
            return why, PROXY_LOGIN
        case TunnelError(status=407, was_sent=was_sent):
            verb = "rejected the" if was_sent else "requires a"
            return f"the proxy {proxy} {verb} user name and password", PROXY_PASSWORD
        case TunnelError(status=status):
            said = f"HTTP {status}" if status else "no usable response"
            why = f"the proxy {proxy} opened no tunnel to {host} ({said})"
            return why, CHECK_PROXY
        case socket.gaierror() if proxy:
            return f"the name of the proxy {proxy} cannot be resolved", CHECK_PROXY
        case socket.gaierror():
            return f"the name {host} cannot be resolved", CHECK_NETWORK
        case ConnectionRefusedError() if proxy:
            return f"connection refused by the proxy {proxy}", CHECK_PROXY
        case ConnectionRefusedError():
            return f"connection refused by {host}", CHECK_NETWORK
        case _ if _is_cut(error):
            return f"{host} closed the connection before the response was complete", CHECK_NETWORK
        case ssl.SSLError():
            return _tls(error, host)
        case http.client.HTTPException():
            return f"{host} does not speak HTTP there", CHECK_ADDRESS
        case OSError(strerror=str(text)):
            return text.lower(), CHECK_PROXY if proxy else CHECK_NETWORK
    return f"{type(error).__name__} in the connection to {host}", CHECK_NETWORK


def redirect(host: str, location: str) -> tuple[str, bool]:
    """Return the host that a redirect of another one leads to, and whether that is a page to log in at."""
    try:
        target = urlsplit(location)
        there = target.hostname or host
    except ValueError:
        return host, False
    return there, bool(SIGN_IN & set(re.split(r"[^a-z0-9]+", f"{there} {target.path}".lower())))


def _is_cut(error: Exception) -> bool:
    """Tell whether the connection ended before the response did."""
    # Until 3.11.3, Python raised a plain SSLError for what later versions call SSLEOFError.
    return (
        isinstance(
            error, (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, http.client.IncompleteRead)
        )
        or getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"
    )


def _certificate(error: ssl.SSLCertVerificationError, host: str) -> tuple[str, str]:
    code = error.verify_code
    contact = f"contact the administrator of {host}"
    if code in (EXPIRED, NOT_YET_VALID):
        state = "has expired" if code == EXPIRED else "is not valid yet"
        today, sets = time.strftime("%Y-%m-%d"), system.command_line(system.setting_the_clock())
        return (
            f"the certificate of {host} {state} (this machine's date: {today})",
            f"if that date is wrong, set the clock: {sets}; else {contact}",
        )
    if code in WRONG_HOST:
        return (
            f"the certificate shown is not valid for {host}",
            f"check the address; another server perhaps poses as {host}",
        )
    if code == SELF_SIGNED:
        return f"the certificate of {host} is self-signed", OWN_AUTHORITY
    if code in UNKNOWN_AUTHORITY:
        authority = "a certificate authority (CA) that this machine does not trust"
        return f"the certificate of {host} comes from {authority}", OWN_AUTHORITY
    if code == WRONG_PURPOSE:
        return f"the certificate of {host} was issued for another purpose", contact
    if code in WEAK:
        return f"the certificate of {host} is signed too weakly", contact
    if code in INVALID_AUTHORITY:
        return f"the certificate of {host} comes from an authority that must not issue it", OWN_AUTHORITY
    return f"the certificate of {host} cannot be verified ({error.verify_message})", OWN_AUTHORITY


def _tls(error: ssl.SSLError, host: str) -> tuple[str, str]:
    reason = getattr(error, "reason", None) or ""
    words = reason.replace("_", " ").lower() or "no reason given"
    if reason in NOT_TLS:
        return f"{host} does not speak TLS on that port", CHECK_ADDRESS
    if reason in OLD_TLS:
        why = f"{host} does not offer TLS 1.2 or later ({words})"
        return why, f"contact the administrator of {host}"
    return f"TLS with {host} failed ({words})", "check the address and HTTPS_PROXY"
