"""Feed every reader of foreign bytes with damaged input, for minutes.

    python -m tests.bench fuzz [MINUTES] [TARGET]

MINUTES is for each target. A target takes bytes and must return, or raise nothing but its own
refusal; the targets check more where there is more to promise. What breaks one is kept in
`tests/data/fuzz/TARGET/` and tried again by every `make test`. The seed is printed, and can be
given as `SEED` in the environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.edit import generate
from tests.edit.invariants import check_invariants
from thv_llm import settings, state
from thv_llm.edit import Format
from thv_llm.errors import ThvLlmError
from thv_llm.net.http_client import json_object, response_with
from thv_llm.oidc import id_token, published, token_endpoint
from thv_llm.oidc import login as login_module
from thv_llm.oidc.discovery import Metadata
from thv_llm.proxy import framing
from thv_llm.proxy.http1 import HeadReader, Rejected, parse_request, parse_response
from thv_llm.secret import Secret

KEPT = Path(__file__).resolve().parent.parent / "data" / "fuzz"
MAX_BODY_BYTES = 1 << 30
TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"-1",
    b"\xff",
    b"chunked",
    b"%00",
    b'"',
    b"{",
)


def request(data: bytes) -> None:
    """A tool's request: taken or refused alike, whole or byte by byte."""
    whole, pieces = _request(data, len(data) or 1), _request(data, 1)
    assert whole == pieces, (whole, pieces)


def response(data: bytes) -> None:
    """A gateway's response: the same."""
    whole, pieces = _respond(data, len(data) or 1), _respond(data, 1)
    assert whole == pieces, (whole, pieces)


def _request(data: bytes, step: int) -> object:
    def decoder(head: bytes) -> framing.Decoder:
        return framing.of_request(parse_request(head), MAX_BODY_BYTES)

    return _message(data, step, HeadReader(), decoder)


def _respond(data: bytes, step: int) -> object:
    def decoder(head: bytes) -> framing.Decoder:
        return framing.of_response(parse_response(head), b"GET")

    return _message(data, step, HeadReader(of_response=True), decoder)


def _message(
    data: bytes, step: int, reader: HeadReader, decoder: Callable[[bytes], framing.Decoder]
) -> object:
    """Read one message in pieces; return its body and what is left, or that it was refused."""
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    body: framing.Decoder | None = None
    content, rest = b"", b""
    try:
        for piece in pieces:
            if body is None:
                if not reader.feed(piece):
                    continue
                body = decoder(reader.head)
                piece = reader.rest
            was_done = body.done
            if not was_done and piece:
                content += body.feed(piece)
            if body.done:
                rest += piece if was_done else body.rest
        if body is None:
            return "not whole"
        if not body.done:
            body.end()
    except Rejected:
        return "refused"
    return content, rest


def _editor(format: Format) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        check_invariants(format, data.decode("utf-8", "replace"), random.Random(len(data)))

    return target


def _on_disk(load: Callable[[str], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            with contextlib.suppress(ThvLlmError):
                load(file.name)

    return target


def redirect(data: bytes) -> None:
    """The query with which the browser comes back."""
    metadata = Metadata("https://id.example", "https://id.example/token", iss_in_callback=len(data) % 2 > 0)
    query = data.decode("latin-1")
    assert not login_module.is_response(query, Secret("a-state-that-nobody-guesses"))
    with contextlib.suppress(ThvLlmError):
        login_module.code_of(query, metadata)


def token_response(data: bytes) -> None:
    """What the token endpoint says."""
    response = response_with("id.example", 200, {"content-type": "application/json"}, data)
    with contextlib.suppress(ThvLlmError):
        found = token_endpoint.tokens(response, now=0.0)
        text = found.access.reveal()
        assert text
        assert all("!" <= character <= "~" for character in text)
        if found.id_token:
            id_token.check_refreshed(found.id_token, issuer="https://id.example", client_id="c", subject="s")


def metadata(data: bytes) -> None:
    """What a gateway publishes: nothing of it leads to a host that it must not name."""
    with contextlib.suppress(ThvLlmError, ValueError):  # ValueError: no JSON object
        found = published.read(json_object(data), "URL", "https://llm.example")
        assert found.issuers
        assert all(one.startswith("https://") for one in found.issuers)
        for value in found.values.values():
            words = value if isinstance(value, tuple) else (str(value),)
            assert all(word.isascii() and word.isprintable() for word in words)


HEAD = b"POST /v1/messages?x=1 HTTP/1.1\r\nHost: 127.0.0.1:14000\r\n"
SEEDS: dict[str, tuple[bytes, ...]] = {
    "request": (
        HEAD + b"Content-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTrailer: a\r\n\r\n4;x=y\r\nbody\r\n0\r\na: b\r\n\r\nrest",
        b"\r\nGET / HTTP/1.0\r\nHost: localhost\r\nX: \xe4\t\r\n\r\n",
    ),
    "response": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyrest",
        b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nA\r\n0123456789\r\n0\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\nConnection: close\r\n\r\nuntil the end",
    ),
    "settings": (
        b'gateway_url = "https://g"\nmodels = ["a"]\n'
        b'[oidc]\nissuer = "https://i"\n[proxy]\nlisten_port = 1\n',
    ),
    "state": (json.dumps({"version": 1, "wired": [], "local_key": "thv-x", "service": {}}).encode(),),
    "redirect": (b"code=c&state=s&iss=https%3A%2F%2Fid.example", b"error=access_denied&state=s"),
    "metadata": (
        json.dumps(
            {
                "authorization_servers": ["https://id.example"],
                "scopes_supported": ["openid", "https://llm.example/.default"],
                **{
                    f"com.stacklok.thv-llm.{name}": value
                    for name, value in {
                        "client_id": "cli",
                        "resource": "https://llm.example/v1",
                        "callback_port": 53180,
                        "models": ["a", "b"],
                        "paths": {"openai": "/o/v1", "models": "/m"},
                    }.items()
                },
            }
        ).encode(),
    ),
    "token_answer": (
        b'{"access_token":"at","token_type":"Bearer","expires_in":3600,"refresh_token":"rt","id_token":"a.b.c"}',
    ),
}
TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": request,
    "response": response,
    "settings": _on_disk(settings.load),
    "state": _on_disk(state.load),
    "redirect": redirect,
    "metadata": metadata,
    "token_answer": token_response,
} | {format.name.lower(): _editor(format) for format in Format}


def sample(target: str, rng: random.Random) -> bytes:
    """Return one damaged input for a target."""
    if target in SEEDS:
        return mutated(rng.choice(SEEDS[target]), rng)
    format = Format[target.upper()]
    text = generate.text(format, rng)
    return (generate.damaged(text, rng) if rng.random() < 0.7 else text).encode("utf-8", "replace")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut, repeat, overwrite or insert, a few times."""
    found = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at, length = rng.randrange(len(found) + 1), rng.randrange(1, 12)
        kind = rng.randrange(5)
        if kind == 0:
            del found[at : at + length]
        elif kind == 1:
            found[at:at] = found[at : at + length] * rng.randrange(1, 4)
        elif kind == 2:
            found[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 3:
            found[at:at] = rng.choice(TOKENS)
        else:
            other = rng.randrange(len(found) + 1)
            found[at:at] = found[other : other + length]
    return bytes(found)


def keep(target: str, data: bytes) -> Path:
    """Keep an input that broke a target."""
    path = KEPT / target / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def rounds(target: str, seconds: float, seed: int) -> tuple[int, list[Path]]:
    """Try a target for that long; return how often, and what broke it."""
    rng = random.Random(f"{seed}{target}")
    end = time.monotonic() + seconds
    count = 0
    broken: list[Path] = []
    while time.monotonic() < end and len(broken) < 10:
        data = sample(target, rng)
        count += 1
        try:
            TARGETS[target](data)
        except Exception as error:
            broken.append(keep(target, data))
            print(f"  {target}: {type(error).__name__}: {str(error)[:200]}  -> {broken[-1]}", flush=True)
    return count, broken


def main(arguments: list[str]) -> int:
    """Try one target or all."""
    seconds = float(arguments[0]) * 60 if arguments else 60.0
    names = arguments[1:] or list(TARGETS)
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 30))
    print(f"seed {seed}")
    failed = 0
    for name in names:
        count, broken = rounds(name, seconds, seed)
        failed += len(broken)
        print(f"{name:<16}{count:>10} inputs  {len(broken)} broken", flush=True)
    return 1 if failed else 0
