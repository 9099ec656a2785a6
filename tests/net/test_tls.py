"""Which servers the client's TLS context trusts, tried on real handshakes in memory."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from thv_llm.errors import ThvLlmError
from thv_llm.net import tls

DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority, without the keyUsage that X509_STRICT asks for."""

    def __init__(
        self, directory: Path, name: str = "test authority", parent: Authority | None = None
    ) -> None:
        self.directory = directory
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        issuer = parent or self
        self.certificate = (
            _builder(name, issuer.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(issuer.key, hashes.SHA256())
        )
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, common_name: str, *addresses: str, days: int = 1) -> ssl.SSLContext:
        """Return a server's context whose certificate has these addresses in subjectAltName."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(common_name, self.name, key, days)
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        file = self.directory / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _builder(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, days: int = 1
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * DAY)
        .not_valid_after(now + days * DAY)
    )


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "127.0.0.1") -> ssl.SSLObject:
    """Let the two shake hands in memory; return the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    open_ends = [ours, theirs]
    for _ in range(10):
        for end in list(open_ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_ends.remove(end)
        if not open_ends:
            return ours
    raise AssertionError("the handshake does not end")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_server_that_ca_file_vouches_for_is_trusted(authority: Authority) -> None:
    client = tls.client_context(str(authority.file), environ={})

    assert handshake(client, authority.server("any", "127.0.0.1", "::1")).version() == "TLSv1.3"


def test_ca_file_adds_to_the_authorities_of_the_system(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "another authority")
    client = tls.client_context(str(authority.file), environ={"SSL_CERT_FILE": str(other.file)})

    handshake(client, authority.server("any", "127.0.0.1"))
    handshake(client, other.server("any", "127.0.0.1"))


def test_an_intermediate_authority_in_ca_file_is_enough(authority: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path, "middle", authority)

    handshake(tls.client_context(str(middle.file), environ={}), middle.server("any", "127.0.0.1"))


def test_ssl_cert_dir_is_honored(authority: Authority, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    client = tls.client_context(environ={"SSL_CERT_DIR": str(empty), "SSL_CERT_FILE": str(tmp_path / "none")})

    assert client.cert_store_stats()["x509"] == 0
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, authority.server("any", "127.0.0.1"))


def test_the_store_of_the_system_is_used_when_nothing_is_said() -> None:
    usual = ssl.get_default_verify_paths()
    if not os.path.isfile(usual.openssl_cafile) and not any(map(os.path.isfile, tls.BUNDLES)):
        pytest.skip("this system has no store of authorities")

    assert tls.client_context(environ={}).cert_store_stats()["x509_ca"] > 0


def test_a_context_in_the_making_is_the_same_as_one_made_at_once(authority: Authority) -> None:
    context = tls.begun(str(authority.file), environ={})

    assert context() is context()
    handshake(context(), authority.server("any", "127.0.0.1"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls.begun("", environ={})(), authority.server("any", "127.0.0.1"))


def test_an_error_in_a_context_in_the_making_is_told_to_its_caller(tmp_path: Path) -> None:
    context = tls.begun(str(tmp_path / "none"), environ={})

    with pytest.raises(ThvLlmError, match="cannot use ca_file"):
        context()


@pytest.mark.parametrize(
    ("common_name", "addresses", "days", "reason"),
    [
        ("127.0.0.1", (), 1, "mismatch"),
        ("127.0.0.1", ("10.0.0.1",), 1, "mismatch"),
        ("any", ("127.0.0.1",), -1, "expired"),
    ],
    ids=["name only in the common name", "another address", "expired"],
)
def test_a_certificate_for_another_host_is_refused(
    authority: Authority, common_name: str, addresses: tuple[str, ...], days: int, reason: str
) -> None:
    client = tls.client_context(str(authority.file), environ={})

    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        handshake(client, authority.server(common_name, *addresses, days=days))


def test_an_unknown_authority_is_refused_unless_the_user_said_so(authority: Authority) -> None:
    server = authority.server("any", "10.0.0.1")

    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls.client_context(environ={}), server)
    handshake(tls.client_context(environ={}, verify=False), server)


def test_old_protocol_versions_are_refused() -> None:
    assert tls.client_context(environ={}).minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.client_context(environ={}, verify=False).minimum_version == ssl.TLSVersion.TLSv1_2


def test_flags_are_the_same_on_every_python() -> None:
    flags = tls.client_context(environ={}).verify_flags

    assert flags == ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    assert not flags & ssl.VERIFY_X509_STRICT


def test_a_key_log_is_never_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    assert tls.client_context(environ=os.environ).keylog_filename is None


def test_protocols_are_offered_on_request(authority: Authority) -> None:
    server = authority.server("any", "127.0.0.1")
    server.set_alpn_protocols(["http/1.1"])

    assert (
        handshake(tls.client_context(str(authority.file), environ={}), server).selected_alpn_protocol()
        is None
    )
    client = tls.client_context(str(authority.file), environ={}, alpn=["http/1.1"])
    assert handshake(client, server).selected_alpn_protocol() == "http/1.1"


def test_a_broken_store_of_the_system_is_passed_over(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("no certificate")
    environ = {"SSL_CERT_FILE": str(tmp_path / "junk"), "SSL_CERT_DIR": "/nowhere"}

    handshake(tls.client_context(str(authority.file), environ=environ), authority.server("any", "127.0.0.1"))


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\xfe"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "company.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ThvLlmError) as caught:
        tls.client_context(str(path), environ={})

    assert "company.pem" in str(caught.value)
    assert "--ca-file" in caught.value.next_step
