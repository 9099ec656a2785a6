"""An LLM gateway on loopback: asks for a good Bearer, streams with gaps, remembers what it was sent.

    with FakeGateway(provider.verify_access_token) as gateway:
        # gateway.url, gateway.ca_file
        ...
    assert gateway.served("/v1/chat/completions")

It speaks OpenAI's chat completions and responses, Anthropic's messages and Gemini's
generateContent, over HTTP/1.1 with kept connections; each event is a chunk of its own, sent at
once. `text` is the text of every completion. Standard library only: `make demo` runs on it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fakes import completions, tool_calls
from tests.fakes.web import CA_FILE, Request, ServerResponse, WebServer

TEXT = "The gateway says hello to you."
METADATA_PATH = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True)
class Received:
    """One request as it came, and whether its token was good.

    Attributes:
        path: with its query.
        headers: in order, names as sent.
        at: when it was there (monotonic).
    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    admitted: bool
    at: float = field(default_factory=time.monotonic)

    def header(self, name: str) -> str:
        """Return a header's value ("" = not sent)."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one response.

    Attributes:
        status: of the error that comes instead; 0 for a stream that is cut.
        headers: of that error.
        events: how many come before the cut.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    events: int = 0


class FakeGateway(WebServer):
    """A gateway while the context lasts.

    Args:
        check: called with the Bearer token; raises ValueError when it is not good.
        text: the text of every completion.
        gap_s: how long to wait before each streamed event but the first.
        models: the ids that `/v1/models` lists.
        anthropic_paths, openai_paths, gemini_paths: under which paths each API is served.
        authenticates_first: a request without a good token gets 401 for any path.
        host, port: where it listens, and is called.

    Attributes:
        requests: in order of arrival.
        fault: asked, in the thread of each admitted request, what goes wrong with its response.
        published: by path, what is sent to every client; {} for a gateway that says nothing of itself.
        challenge: the `WWW-Authenticate` of its 401.
        command: called with how many results a conversation has; what the model has the tool's shell run
            next, "" when it says its text.
    """

    ca_file = CA_FILE

    def __init__(
        self,
        check: Callable[[str], object],
        *,
        text: str = TEXT,
        gap_s: float = 0.0,
        models: tuple[str, ...] = ("m-1", "m-2"),
        anthropic_paths: tuple[str, ...] = ("/anthropic", ""),
        openai_paths: tuple[str, ...] = ("",),
        gemini_paths: tuple[str, ...] = ("",),
        authenticates_first: bool = False,
        tls: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(_never, tls=tls, host=host, port=port)
        self.check = check
        self.text = text
        self.gap_s = gap_s
        self.models = models
        self.anthropic_paths = anthropic_paths
        self.openai_paths = openai_paths
        self.gemini_paths = gemini_paths
        self.authenticates_first = authenticates_first
        self.requests: list[Received] = []
        self.fault: Callable[[Received], Fault | None] = _none
        self.published: dict[str, ServerResponse | Callable[[Request], ServerResponse]] = {}
        self.challenge = "Bearer"
        self.command: Callable[[int], str] = lambda _: ""

    def publish(self, document: Mapping[str, object], path: str = METADATA_PATH) -> None:
        """Send this document to every client; `resource` is the gateway unless it names another."""
        self.published[path] = ServerResponse(body={"resource": self.url, **document})

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Serve kept connections and streams."""
        return _Handler

    def served(self, path: str) -> list[Received]:
        """Return the requests to a path that carried a good token."""
        return [one for one in self.requests if urlsplit(one.path).path == path and one.admitted]

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header carries a good token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            self.check(token.strip())
        except ValueError:
            return False
        return True


def _never(_: Request) -> ServerResponse:
    raise AssertionError("the handler of this server answers by itself")


def _none(_: Received) -> None:
    return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake-gateway"
    sys_version = ""
    wbufsize = -1  # the head and a short body in one packet
    _events: int | None = None

    @property
    def gateway(self) -> FakeGateway:
        owner: FakeGateway = self.server.owner  # type: ignore[attr-defined]
        return owner

    def do_GET(self) -> None:
        body = self._body()
        admitted = self.gateway.admits(self.headers.get("authorization", ""))
        received = Received(self.command, self.path, list(self.headers.items()), body, admitted)
        self.gateway.requests.append(received)
        path = urlsplit(self.path).path
        route = self._route(path)
        if response := self.gateway.published.get(path):
            self._respond(response if isinstance(response, ServerResponse) else response(self._request(body)))
        elif self.headers.get("upgrade"):
            self._error(426, "no WebSocket here")
        elif route is None and (admitted or not self.gateway.authenticates_first):
            self._error(404, f"there is no {path[:200]!r} here")
        elif route is None or not admitted:
            self._error(401, "the token is missing or not good", {"WWW-Authenticate": self.gateway.challenge})
        elif (fault := self.gateway.fault(received)) and fault.status:
            self._error(fault.status, "as the test has it", fault.headers)
        else:
            self._events = fault.events if fault else None
            route(_json(body))

    do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def _route(self, path: str) -> Callable[[dict[str, Any]], None] | None:
        for prefix in self.gateway.anthropic_paths:
            if path == f"{prefix}/v1/messages":
                return lambda asked: self._complete(asked, "messages")
            if path == f"{prefix}/v1/messages/count_tokens":
                return lambda _: self._json({"input_tokens": completions.INPUT_TOKENS})
        for prefix in self.gateway.openai_paths:
            if path == f"{prefix}/v1/chat/completions":
                return lambda asked: self._complete(asked, "chat")
            if path == f"{prefix}/v1/responses":
                return lambda asked: self._complete(asked, "responses")
            if path == f"{prefix}/v1/models":
                return lambda _: self._json(completions.models(self.gateway.models))
        for prefix in self.gateway.gemini_paths:
            if path.startswith(prefix) and (route := self._gemini_route(path.removeprefix(prefix))):
                return route
        return None

    def _gemini_route(self, path: str) -> Callable[[dict[str, Any]], None] | None:
        if path == "/v1beta/models":
            return lambda _: self._json(
                {"models": [{"name": f"models/{one}"} for one in self.gateway.models]}
            )
        found = re.fullmatch(r"/v1(?:beta)?/models/([^/:]+):(\w+)", path)
        if not found:
            return None
        model, verb = found.groups()
        verbs: dict[str, Callable[[dict[str, Any]], None]] = {
            "streamGenerateContent": lambda asked: self._stream(self._events_of("gemini", model, asked)),
            "generateContent": lambda _: self._json(completions.whole_gemini(model, self.gateway.text)),
            "countTokens": lambda _: self._json({"totalTokens": completions.INPUT_TOKENS}),
        }
        return verbs.get(verb)

    def _complete(self, asked: dict[str, Any], api: str) -> None:
        model = str(asked.get("model", self.gateway.models[0]))
        if asked.get("stream"):
            self._stream(self._events_of(api, model, asked))
        else:
            self._json(getattr(completions, f"whole_{api}")(model, self.gateway.text))

    def _events_of(self, api: str, model: str, asked: dict[str, Any]) -> Iterable[completions.Event]:
        command = self.gateway.command(tool_calls.results(asked))
        call = tool_calls.wanted(asked, command) if command else None
        streamed, what = (tool_calls, call) if call else (completions, self.gateway.text)
        events: Iterable[completions.Event] = getattr(streamed, api)(model, what)
        return events

    def _stream(self, events: Iterable[completions.Event]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, (name, data) in enumerate(events):
            is_over = number and self.gateway.gap_s and self.gateway.stopping.wait(self.gateway.gap_s)
            if is_over or number == self._events:
                self.close_connection = True  # a cut, not an end
                return
            event = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
            self.wfile.write(f"{len(event.encode()):x}\r\n{event}\r\n".encode())
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _json(self, response: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(response).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _request(self, body: bytes) -> Request:
        parts, text = urlsplit(self.path), body.decode("utf-8", "replace")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(
            self.command, parts.path, dict(parse_qsl(parts.query)), dict(parse_qsl(text)), headers, text
        )

    def _respond(self, response: ServerResponse) -> None:
        self.close_connection = True
        if response.raw is not None:
            self.wfile.write(response.raw)
            return
        body, kind = response.encoded()
        self.send_response(response.status)
        for name, value in {"Content-Type": kind, **response.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for piece in [body] if not response.drip_s else [body[i : i + 1] for i in range(len(body))]:
            self.wfile.write(piece)
            self.wfile.flush()
            if response.drip_s and self.gateway.stopping.wait(response.drip_s):
                return

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self._json({"error": {"message": message, "type": "gateway_error", "code": status}}, status, headers)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _json(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}
