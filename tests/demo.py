"""`make demo`: the main job in a temporary home, with nothing but Python and the built file.

A provider and a gateway of our own run on loopback with TLS; two programs named `claude` and
`opencode` stand for the tools, whose settings files have comments, CRLF line ends and a value of
the user's. The gateway publishes how to log in, so that its URL is enough; the questions are answered
through a pseudo-terminal. Everything is shown as a user would see it. Exits 1 unless every file is
byte for byte what it was, and every request at the gateway carried a token of the provider's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider

CLAUDE = b'{\r\n  "model": "opus",\r\n  "env": {"EDITOR": "vi"}\r\n}\r\n'
OPENCODE = b'{\n  // my own colors\n  "theme": "gruvbox",\n}\n'
QUESTION = {"model": "demo-large", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
SHOWN_TOKEN_CHARACTERS = 24
QUESTIONS = re.compile(rb"\[[Yy]/[Nn]\] ")


class Demo:
    """One run, in a home of its own."""

    def __init__(self, program: Path, home: Path, provider: FakeProvider, gateway: FakeGateway) -> None:
        self.home = home
        self.provider = provider
        self.gateway = gateway
        self.port = _free_port()
        self.files = {
            home / ".claude" / "settings.json": CLAUDE,
            home / ".config" / "opencode" / "opencode.jsonc": OPENCODE,
        }
        self.commands = home / "bin"
        self.commands.mkdir()
        for path, data in self.files.items():
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
        for tool in ("claude", "opencode"):
            self._command(tool, "#!/bin/sh\nexit 0\n")
        self._command("thv-llm", f'#!/bin/sh\nexec "{sys.executable}" -I "{program}" "$@"\n')
        self._command(
            "browser", f'#!/bin/sh\ncd "{_top()}"\nexec "{sys.executable}" -m tests.fakes.browser "$1"\n'
        )
        self.environ = {
            "HOME": str(home),
            "PATH": f"{self.commands}:/usr/bin:/bin",
            "BROWSER": f"{self.commands}/browser %s",
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }

    def _command(self, name: str, text: str) -> None:
        path = self.commands / name
        path.write_text(text)
        path.chmod(0o755)

    def type(self, *arguments: str, show: bool = True) -> str:
        """Run one command as if typed; return its stdout."""
        shown = " ".join(arguments).replace(str(self.home), "~")
        print(f"\n$ thv-llm {shown}", flush=True)
        done = subprocess.run(
            ["thv-llm", *arguments],
            executable=str(self.commands / "thv-llm"),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if show:
            print(done.stdout, end="", flush=True)
        if done.returncode:
            raise SystemExit(f"demo: thv-llm {arguments[0]} ended with {done.returncode}")
        return done.stdout

    def answer(self, *arguments: str) -> None:
        """Run one command at a terminal, and say yes to each of its questions."""
        print(f"\n$ thv-llm {' '.join(arguments).replace(str(self.home), '~')}", flush=True)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["thv-llm", *arguments],
            executable=str(self.commands / "thv-llm"),
            env=self.environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        asked = 0
        seen = b""
        with contextlib.suppress(OSError):  # how Linux says that the terminal is closed
            while data := os.read(ours, 4096):
                seen += data
                print(data.decode(errors="replace").replace("\r\n", "\n"), end="", flush=True)
                if len(QUESTIONS.findall(seen)) > asked:
                    asked += 1
                    os.write(ours, b"y\n")
        os.close(ours)
        if process.wait() or asked != 2:
            raise SystemExit(f"demo: thv-llm {arguments[0]} ended with {process.returncode}, asked {asked}")

    def run(self) -> None:
        """Set up, use, tear down, and compare."""
        self.gateway.publish(
            {
                "authorization_servers": [self.provider.issuer],
                "com.stacklok.thv-llm.client_id": "thv-llm",
            }
        )
        own = ("--ca-file", self.provider.ca_file, "--proxy-port", str(self.port))  # of this demo alone
        self.answer("setup", self.gateway.url, *own)
        self.type("config", "show")
        token = self.type("token", show=False).strip()
        print(f"{token[:SHOWN_TOKEN_CHARACTERS]}… ({len(token)} characters)")
        self.provider.verify_access_token(token)
        self.stream()
        self.type("teardown")
        self.compare()

    def end(self) -> None:
        """End the service, however far the run came."""
        command = [str(self.commands / "thv-llm"), "proxy", "stop"]
        subprocess.run(command, env=self.environ, capture_output=True, check=False)

    def stream(self) -> None:
        """Ask through the proxy as OpenCode would, and show each event when it arrives."""
        written = (self.home / ".config" / "opencode" / "opencode.jsonc").read_text()
        key = written.split('"apiKey": "')[1].split('"')[0]
        print(f"\n$ curl -N http://127.0.0.1:{self.port}/v1/chat/completions   (as OpenCode asks)")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        began = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION), headers)
        answer = connection.getresponse()
        times = []
        while line := answer.readline():
            if line.startswith(b"data: {"):
                times.append(time.monotonic() - began)
                delta = json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                print(f"  {times[-1]:5.2f} s  {delta}", flush=True)
        connection.close()
        if answer.status != 200 or len(times) < 3 or times[-1] - times[0] < self.gateway.gap_s:
            raise SystemExit("demo: the answer did not arrive as a stream")

    def compare(self) -> None:
        """Show that every file is what it was, and that the gateway saw our tokens only."""
        print("\n$ cmp, file by file, with what was there before setup")
        for path, data in self.files.items():
            if path.read_bytes() != data:
                raise SystemExit(f"demo: {path} is not what it was")
            print(f"  identical: ~/{path.relative_to(self.home)}")
        left = {path for path in self.home.rglob("*") if path.is_file()} - set(self.files)
        foreign = {path for path in left if not {"toolhive", "bin"} & set(path.parts)}
        if foreign:
            raise SystemExit(f"demo: left behind: {foreign}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _top() -> Path:
    return Path(__file__).resolve().parent.parent


def main(program: Path) -> None:
    """Run the demo with a built file."""
    home = Path(tempfile.mkdtemp(prefix="thv-llm-demo-"))
    try:
        with FakeProvider(needs_consent=True) as provider:
            with FakeGateway(provider.verify_access_token) as gateway:
                gateway.gap_s = 0.4
                demo = Demo(program, home, provider, gateway)
                try:
                    demo.run()
                finally:
                    demo.end()
        print("\nThat was setup, token, a streamed response and teardown. Your own files were not touched.")
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
