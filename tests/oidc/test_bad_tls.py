"""Fifteen servers with bad TLS: none gets a byte of a token, and each is told apart."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from thv_llm.errors import NoResponseError
from thv_llm.oidc.http import Provider
from thv_llm.secret import Secret

TOKEN = "canary-refresh-token"
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
OTHER_IP = ipaddress.ip_address("10.0.0.1")
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Authority:
    """A certificate authority."""

    name: str
    is_authority: bool = True
    key: Key = field(default_factory=new_key)
    parent: Authority | None = None

    def certificate(self) -> x509.Certificate:
        issuer = self.parent or self
        constraints = x509.BasicConstraints(ca=self.is_authority, path_length=None)
        return (
            certificate(self.name, self.key, issuer.name)
            .add_extension(constraints, critical=True)
            .sign(issuer.key, hashes.SHA256())
        )


def certificate(
    name: str,
    key: Key,
    issuer: str,
    begins: datetime.datetime = NOW - DAY,
    ends: datetime.datetime = NOW + DAY,
) -> x509.CertificateBuilder:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


@dataclass
class Leaf:
    """A server's certificate, and how its TLS is set up.

    Attributes:
        names: subjectAltName; none leaves only the common name.
        signer: "us" is trusted, "foreign" is not, "itself" signs itself, "leaf" is a
            certificate of ours that is no authority.
        spoils: makes a context worse.
        host: what the client calls it.
    """

    names: list[x509.GeneralName] = field(default_factory=lambda: [LOOPBACK])
    common_name: str = "server"
    begins: datetime.datetime = NOW - DAY
    ends: datetime.datetime = NOW + DAY
    signer: str = "us"
    key: Callable[[], Key] = new_key
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
    spoils: Callable[[ssl.SSLContext], object] = lambda context: None
    host: str = "127.0.0.1"


@dataclass
class World:
    """The authorities of one test run, and where their files are."""

    directory: Path
    us: Authority = field(default_factory=lambda: Authority("our authority"))

    def __post_init__(self) -> None:
        self.ca_file = str(self.directory / "ca.pem")
        self._write("ca.pem", [self.us.certificate()])

    def context(self, leaf: Leaf) -> ssl.SSLContext:
        key = leaf.key()
        signer, chain = self._signer(leaf, key)
        builder = certificate(leaf.common_name, key, signer.name, leaf.begins, leaf.ends)
        builder = builder.add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
        if leaf.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(leaf.names), critical=False)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        self._write("leaf.pem", [builder.sign(signer.key, hashes.SHA256()), *chain], key)
        context.load_cert_chain(self.directory / "leaf.pem")
        leaf.spoils(context)
        return context

    def _signer(self, leaf: Leaf, key: Key) -> tuple[Authority, list[x509.Certificate]]:
        if leaf.signer == "itself":
            return Authority(leaf.common_name, key=key), []
        if leaf.signer == "foreign":
            foreign = Authority("a foreign authority")
            return foreign, [foreign.certificate()]
        if leaf.signer == "leaf":
            false_one = Authority("no authority", is_authority=False, parent=self.us)
            return false_one, [false_one.certificate()]
        return self.us, []

    def _write(self, name: str, certificates: list[x509.Certificate], key: Key | None = None) -> None:
        pem = serialization.Encoding.PEM
        data = b"".join(each.public_bytes(pem) for each in certificates)
        if key is not None:
            form = serialization.PrivateFormat.PKCS8
            data += key.private_bytes(pem, form, serialization.NoEncryption())
        (self.directory / name).write_bytes(data)


def at_most(version: ssl.TLSVersion) -> Callable[[ssl.SSLContext], object]:
    def spoil(context: ssl.SSLContext) -> None:
        import warnings

        with warnings.catch_warnings():  # old versions are deprecated, which is the point here
            warnings.simplefilter("ignore")
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = version

    return spoil


def anonymous(context: ssl.SSLContext) -> None:
    """Offer ciphers without any certificate."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")


BAD = {
    "expired": (Leaf(ends=NOW - DAY / 2), "has expired"),
    "not-yet-valid": (Leaf(begins=NOW + DAY / 2), "not valid yet"),
    "wrong-host": (Leaf(names=[x509.DNSName("other.example")]), "not valid for 127.0.0.1"),
    "wrong-ip": (Leaf(names=[x509.IPAddress(OTHER_IP)]), "not valid for 127.0.0.1"),
    "common-name-only": (Leaf(names=[], common_name="127.0.0.1"), "not valid for 127.0.0.1"),
    "host-in-common-name": (
        Leaf(names=[], common_name="localhost", host="localhost"),
        "not valid for localhost",
    ),
    "host-in-common-name-beside-an-ip": (
        Leaf(names=[x509.IPAddress(OTHER_IP)], common_name="localhost", host="localhost"),
        "not valid for localhost",
    ),
    "ip-as-dns-name": (Leaf(names=[x509.DNSName("127.0.0.1")]), "not valid for 127.0.0.1"),
    "self-signed": (Leaf(signer="itself"), "self-signed"),
    "unknown-authority": (Leaf(signer="foreign"), "authority (CA) that this machine does not trust"),
    "issued-by-a-leaf": (Leaf(signer="leaf"), "authority that must not issue it"),
    "for-clients-only": (Leaf(usage=ExtendedKeyUsageOID.CLIENT_AUTH), "for another purpose"),
    "weak-key": (Leaf(key=lambda: rsa.generate_private_key(65537, 1024)), "weak"),
    "tls-1.0": (Leaf(spoils=at_most(ssl.TLSVersion.TLSv1)), "TLS 1.2"),
    "tls-1.1": (Leaf(spoils=at_most(ssl.TLSVersion.TLSv1_1)), "TLS 1.2"),
    "anonymous": (Leaf(spoils=anonymous), "TLS"),
}


class TlsServer:
    """Accept one connection; keep every byte that comes through it decrypted.

    Args:
        context: None speaks no TLS at all but responds like a web server.
        cuts: end the connection in the middle of the handshake.
    """

    def __init__(self, context: ssl.SSLContext | None, *, cuts: bool = False) -> None:
        self._context = context
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.seen = b""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> TlsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(10)
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(5)
            if self._cuts:
                connection.recv(10)
                return
            try:
                if self._context is None:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    self.seen += connection.recv(65536)
                    return
                with self._context.wrap_socket(connection, server_side=True) as tls:
                    while TOKEN.encode() not in self.seen and (data := tls.recv(65536)):
                        self.seen += data
                    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            except OSError:
                pass


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("tls"))


def send_token(world: World, server: TlsServer, host: str = "127.0.0.1") -> None:
    http = Provider(world.ca_file, {"SSL_CERT_FILE": world.ca_file}, timeout_s=5.0)
    http.post_form(f"https://{host}:{server.port}/token", {"refresh_token": Secret(TOKEN)})


def assert_nothing_went_out(server: TlsServer, error: NoResponseError, says: str) -> None:
    assert TOKEN.encode() not in server.seen
    assert says in str(error)
    assert error.what.removeprefix("cannot reach the provider at ") in ("127.0.0.1", "localhost")
    assert error.next_step
    assert not error.maybe_sent


@pytest.mark.parametrize("name", BAD)
def test_a_bad_server_gets_nothing(world: World, name: str) -> None:
    leaf, says = BAD[name]
    with TlsServer(world.context(leaf)) as server, pytest.raises(NoResponseError) as caught:
        send_token(world, server, leaf.host)

    assert_nothing_went_out(server, caught.value, says)
    if "authority" in says or "self-signed" in says:
        assert "--ca-file" in caught.value.next_step


def test_a_server_without_tls_gets_nothing(world: World) -> None:
    with TlsServer(None) as server, pytest.raises(NoResponseError) as caught:
        send_token(world, server)

    assert_nothing_went_out(server, caught.value, "does not speak TLS")


def test_a_server_that_hangs_up_in_the_handshake_gets_nothing(world: World) -> None:
    with TlsServer(None, cuts=True) as server, pytest.raises(NoResponseError) as caught:
        send_token(world, server)

    assert_nothing_went_out(server, caught.value, "")


def test_a_good_server_gets_the_token(world: World) -> None:
    """Without this one, all the others could pass for a wrong reason."""
    with TlsServer(world.context(Leaf())) as server:
        send_token(world, server)

    assert TOKEN.encode() in server.seen


def test_there_are_fifteen_and_more() -> None:
    assert len(BAD) + 2 >= 15
