"""A machine on which all is well, and whatever can go wrong with it; what each command then says.

Provider and gateway are reached through cables, the service is a process of its own, and a tool is
a request to the proxy with the key from its settings.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import canaries
from tests.commands.homes import Run, Stream
from tests.commands.machine import Machine, machine
from tests.fakes.cable import Cable
from tests.fakes.secret_service import FakeSecretService
from tests.fakes.web import ServerResponse
from tests.service.lab import impatience
from thv_llm.commands import session
from thv_llm.context import Context

HEALS_WITHIN_S = 20.0
CHAT = json.dumps({"model": "m-1", "messages": [{"role": "user", "content": "hello"}]})


@dataclass
class Site:
    """The machine, with what is around it."""

    machine: Machine
    to_provider: Cable
    to_gateway: Cable
    closing: contextlib.ExitStack
    kept: bytes = b""
    next_steps: list[str] = field(default_factory=list)
    tool_has: tuple[int, str, str] = (0, "", "")
    keyring: FakeSecretService = field(init=False)

    def run(self, *words: str) -> Run:
        """Type a command."""
        return self.machine.run(*words)

    def setup(self, *words: str) -> None:
        """Type `setup` with the connection and the models."""
        done = self.machine.setup("--models", "m-1", *words, with_service=True)
        assert done.code == 0, done.err

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the user's shell."""
        return self.machine.environ

    def own(self, name: str) -> Path:
        """Return the path of a file of ours."""
        return Path(getattr(self.machine.paths, name))

    def forget(self) -> None:
        """Have the service drop its access token, as a restart does."""
        session.make_service_forget(Context(self.environ, Stream(), Stream(), Stream(), platform="linux"))

    def alter(self, endpoint: str, response: Callable[[ServerResponse], ServerResponse]) -> None:
        """Change what an endpoint of the provider returns, and have the next token come from there."""
        self.machine.provider.grants.rotates = False  # one that fails has not used the token up
        self.machine.provider.alter[endpoint] = response
        self.forget()

    def failing(self, endpoint: str, status: int, body: object, **headers: str) -> None:
        """Have an endpoint of the provider return this."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.alter(endpoint, lambda _: ServerResponse(status, body, named))

    def doctor(self) -> list[dict[str, Any]]:
        """Return what doctor finds."""
        checks: list[dict[str, Any]] = json.loads(self.run("doctor", "--format", "json").out)["checks"]
        return checks

    def seen(self, name: str) -> str:
        """Return what a command says, or what a tool gets; `next_steps` collects what is advised."""
        if name == "tool":
            return self.tool()
        if name == "doctor":
            done = self.run("doctor", "--format", "json")
            if not done.out:  # not even the checks could begin
                self.next_steps += re.findall(r"next: +(.*)", done.err)
                return done.err
            found = self.faults()
            self.next_steps += [one["remedy"] for one in found]
            return "\n".join(f"{one['name']}: {one['reason']}" for one in found)
        done = self.run(name)
        text = done.err if name == "token" else done.out + done.err
        self.next_steps += re.findall(r"(?:next: +|(?=your administrator must ))(.*)", text)
        return " ".join(text.split())

    def faults(self) -> list[dict[str, Any]]:
        """Return what doctor complains of."""
        return [check for check in self.doctor() if check["level"] != "ok"]

    def tool(self) -> str:
        """Return what a tool on the proxy gets: "200", a status and the text of an error, or no response."""
        settings = self.machine.opencode.read_text() if self.machine.opencode.exists() else ""
        base = re.search(r"127\.0\.0\.1:(\d+)([^\"]*)", settings)
        key = re.search(r'"(thv-[\w-]{20,})"', settings)
        if base and key:  # else one that runs goes on with what it has read before
            self.tool_has = int(base[1]), base[2], key[1]
        number, path, local_key = self.tool_has
        connection = http.client.HTTPConnection("127.0.0.1", number, timeout=15)
        try:
            headers = {"Authorization": f"Bearer {local_key}", "Content-Type": "application/json"}
            connection.request("POST", f"{path}/chat/completions", CHAT, headers)
            response = connection.getresponse()
            body = response.read().decode()
        except OSError as error:
            return f"no response ({type(error).__name__})"
        finally:
            connection.close()
        if response.status == 200:
            return "200"
        return f"{response.status} {json.loads(body)['error']['message']}"

    def helper(self) -> bool:
        """Tell whether the credential helper prints a token that the gateway accepts."""
        done = subprocess.run(
            [self.machine.paths.helper], env=self.environ, capture_output=True, check=False, timeout=30
        )
        token = done.stdout.decode().strip()
        canaries.RUN.command_output(["helper"], "", done.stderr.decode())
        return done.returncode == 0 and self.machine.gateway.admits(f"Bearer {token}")

    def is_well(self) -> list[str]:
        """Return what is not well: doctor's faults, status', a tool that fails, a helper without a token."""
        wrong = [f"{one['name']}: {one['reason']}" for one in self.faults()]
        wrong += [] if (done := self.run("status")).code == 0 else [done.out + done.err]
        try:
            wrong += [] if (got := self.tool()) == "200" else [f"the tool got {got}"]
            wrong += [] if self.helper() else ["the helper gives no token"]
        except (OSError, subprocess.SubprocessError) as error:
            wrong.append(type(error).__name__)
        return wrong

    def becomes_well(self) -> list[str]:
        """Wait until all is well, at most as long as a pause after a failure; return what is not."""
        deadline = time.monotonic() + HEALS_WITHIN_S
        while (wrong := self.is_well()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return wrong

    def type(self, command: str, values: Mapping[str, str]) -> None:
        """Type a command that was printed, with the user's values in place of words like FILE."""
        for line in command.split(" && "):
            words = [values.get(word, word) for word in shlex.split(line)]
            if words[0] == "thv-llm":
                done = self.machine.run(*words[1:], stdin="y\n" * 3, is_terminal=words[1] == "setup")
                assert done.code == 0, f"{line}: {done.err}{done.out}"
            elif words[0] == "unset":
                for name in words[1:]:
                    self.environ.pop(name, None)
            elif words[0] == "export":
                self.environ.update(
                    (name, value) for name, _, value in (word.partition("=") for word in words[1:])
                )
            else:
                words = words[1:] if words[0] == "sudo" else words
                subprocess.run(words, check=True, env={**self.environ, "PATH": os.environ["PATH"]})


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Give one on which all is well; its path is short, for the socket in it."""
    with contextlib.ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="s")))
        made = closing.enter_context(machine(home))
        cables = [closing.enter_context(Cable(server.port)) for server in (made.provider, made.gateway)]
        made.provider.issuer = f"https://127.0.0.1:{cables[0].port}"
        made.gateway.url = f"https://127.0.0.1:{cables[1].port}"
        closing.enter_context(impatience(1.0))  # a healthy service on a busy machine responds within it
        here = Site(made, cables[0], cables[1], closing)
        try:
            here.setup()
            yield here
        finally:
            made.environ.pop("HTTPS_PROXY", None)
            made.run("proxy", "stop")
