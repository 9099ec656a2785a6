"""What is wrong with a server's certificate, in words a person can act on.

Pure.
"""

from __future__ import annotations

import ssl

# The codes of OpenSSL's x509_vfy.h.
NOT_YET_VALID, EXPIRED = 9, 10
SELF_SIGNED = 18
UNKNOWN_AUTHORITY = frozenset({2, 19, 20, 21})
INVALID_AUTHORITY = frozenset({24, 25, 32, 79, 92})
WRONG_PURPOSE = 26
WEAK = frozenset({66, 67, 68})
WRONG_HOST = frozenset({62, 64})

OWN_AUTHORITY = "if your network has its own certificate authority: thv-llm config set --ca-file FILE"


def explain(error: ssl.SSLCertVerificationError, host: str) -> tuple[str, str]:
    """Return why the certificate of `host` was refused, and what to do about it."""
    code = error.verify_code
    if code in (EXPIRED, NOT_YET_VALID):
        state = "has expired" if code == EXPIRED else "is not valid yet"
        return (
            f"the certificate of {host} {state}",
            f"check this machine's clock; tell the people who run {host}",
        )
    if code in WRONG_HOST:
        return (
            f"the certificate shown is not one for {host}",
            f"check the address; someone may pose as {host}",
        )
    if code == SELF_SIGNED:
        return f"the certificate of {host} is self-signed", OWN_AUTHORITY
    if code in UNKNOWN_AUTHORITY:
        return f"the certificate of {host} comes from an authority that is not trusted here", OWN_AUTHORITY
    if code == WRONG_PURPOSE:
        return f"the certificate of {host} was made for another purpose", f"tell the people who run {host}"
    if code in WEAK:
        return f"the certificate of {host} is signed too weakly", f"tell the people who run {host}"
    if code in INVALID_AUTHORITY:
        return f"the certificate of {host} comes from an authority that must not issue it", OWN_AUTHORITY
    return f"the certificate of {host} cannot be verified ({error.verify_message})", OWN_AUTHORITY


def explain_protocol(error: ssl.SSLError, host: str) -> tuple[str, str]:
    """Return why TLS with `host` failed for another reason than its certificate."""
    reason = (getattr(error, "reason", None) or "").replace("_", " ").lower()
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return f"{host} broke off the TLS connection", "check the network; try again later"
    if "wrong version number" in reason or "http request" in reason:
        return f"{host} does not speak TLS on that port", "check the address"
    if "version" in reason or "unsupported protocol" in reason or "alert handshake failure" in reason:
        return f"{host} does not offer TLS 1.2 or later ({reason})", f"tell the people who run {host}"
    return f"TLS with {host} failed ({reason or 'no reason given'})", "check the address and HTTPS_PROXY"
