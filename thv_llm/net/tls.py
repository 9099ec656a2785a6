"""The client's TLS context, for the gateway and the provider alike: which authorities, which checks.

Rule 1: equal on every Python. `ssl.create_default_context` turned VERIFY_X509_STRICT on in 3.13, and
        with it refuses company authorities that 3.11 accepts; the flags here are named one by one.
Rule 2: a name counts only in subjectAltName (RFC 9525 section 6.3), never in the common name.
Rule 3: `ca_file` is trusted in addition to the system's store. SSL_CERT_FILE and SSL_CERT_DIR each
        replace their half of that store, the file or the directory, as in every OpenSSL program.
Rule 4: SSLKEYLOGFILE is not honored: it would write what decrypts our tokens to a file.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence

from thv_llm.errors import ThvLlmError, shown

BUNDLES = (
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
)
"""Where systems keep their store, for a Python whose OpenSSL was built to look elsewhere."""


def client_context(
    ca_file: str = "",
    *,
    environ: Mapping[str, str],
    verify: bool = True,
    alpn: Sequence[str] | None = None,
) -> ssl.SSLContext:
    """Return a context for connections that we open.

    Args:
        ca_file: PEM file of more authorities to trust; empty for none.
        environ: where SSL_CERT_FILE and SSL_CERT_DIR are looked up.
        verify: False only when the user asked for it (`tls_skip_verify`); nothing is checked then.
        alpn: protocols to offer, the best one first; None offers none.

    Raises:
        ThvLlmError: `ca_file` cannot be read, or holds no PEM certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without this a response that is cut off would look like one that has ended.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.options |= ssl.OP_NO_RENEGOTIATION  # no client needs it, and a write could wait for a read
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.hostname_checks_common_name = False
    # PARTIAL_CHAIN: an intermediate authority in `ca_file` is enough, as it is for Go and for 3.13.
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    _trust_system(context, environ)
    if ca_file:
        _trust_file(context, ca_file)
    return context


def begun(ca_file: str, *, environ: Mapping[str, str]) -> Callable[[], ssl.SSLContext]:
    """Begin to make a client context in a thread of its own, and return what waits for it.

    Reading the system's 150 authorities takes some 25 ms, in which Python has time for other things.
    """
    made: list[ssl.SSLContext] = []

    def make() -> None:
        with contextlib.suppress(ThvLlmError):  # told to the caller that needs the context
            made.append(client_context(ca_file, environ=environ))

    thread = threading.Thread(target=make, name="authorities")
    thread.start()

    def context() -> ssl.SSLContext:
        thread.join()
        return made[0] if made else client_context(ca_file, environ=environ)

    return context


def _trust_system(context: ssl.SSLContext, environ: Mapping[str, str]) -> None:
    """Load the system's store; one that cannot be read is passed over, as OpenSSL does."""
    usual = ssl.get_default_verify_paths()
    file = environ.get("SSL_CERT_FILE") or usual.openssl_cafile
    directory = environ.get("SSL_CERT_DIR") or usual.openssl_capath
    files = [file] if os.path.isfile(file) else []
    directories = [part for part in directory.split(os.pathsep) if os.path.isdir(part)]
    if not files and not directories:
        files = [bundle for bundle in BUNDLES if os.path.isfile(bundle)][:1]
    for path in files:
        _load(context, cafile=path)
    for path in directories:
        _load(context, capath=path)


def _load(context: ssl.SSLContext, *, cafile: str | None = None, capath: str | None = None) -> None:
    try:
        context.load_verify_locations(cafile, capath)
    except OSError:  # ssl.SSLError is one
        return


def _trust_file(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        why = f"{shown(path, 200)} holds no certificate in PEM form"
    except OSError as error:
        why = f"{shown(path, 200)}: {error.strerror}"
    else:
        return
    raise ThvLlmError(
        "cannot use ca_file", why=why, next_step="thv-llm setup --ca-file FILE (a readable PEM file)"
    ) from None
