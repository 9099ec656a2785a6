"""The inside of `test_rollout`: thirty homes from one system file, and what an administrator does later.

    python -m tests.commands.rollout PLACE

Runs in a mount namespace of its own, whose /etc it can write to; exits 0 when all is well. No home has a
terminal, a browser, a session bus or a user manager; the program is one file that all of them run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import traceback
import zipapp
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.commands.homes import free_port
from tests.fakes.browser import FakeBrowser
from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from tests.oidc.test_bad_tls import Leaf, World

TOP = Path(__file__).parents[2]
ETC = Path("/etc/toolhive")
HOMES, AT_ONCE = 30, 2
CLAUDE, OPENCODE = '{\r\n\t"model": "opus"\r\n}\r\n', '{\n  // mine\n  "theme": "gruvbox",\n}\n'


class Site:
    """What all homes share.

    Attributes:
        first, second: the gateway before and after it was changed centrally; the second has a
            certificate of another authority.
    """

    def __init__(self, place: Path, provider: FakeProvider, first: FakeGateway, second: FakeGateway) -> None:
        self.place, self.provider, self.first, self.second = place, provider, first, second
        self.program = place / "opt" / "thv-llm"
        self.port = free_port()

    def decide(self, gateway: FakeGateway, *authorities: str) -> None:
        """Write the system file, as the administrator does."""
        ETC.mkdir(exist_ok=True)
        (ETC / "ca.pem").write_text("".join(Path(name).read_text() for name in authorities))
        (ETC / "llm.toml").write_text(
            f'gateway_url = "{gateway.url}"\nca_file = "{ETC}/ca.pem"\nmodels = ["m-1"]\n'
            'token_store = "file"\nlocked = ["gateway_url", "oidc.issuer"]\n'
            f'[oidc]\nissuer = "{self.provider.issuer}"\nclient_id = "thv-llm"\n'
            f"[proxy]\nlisten_port = {self.port}\n"
        )

    def install(self, version: str) -> None:
        """Put the program in place, over the one before."""
        source = self.place / f"source-{version}"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TOP / "thv_llm", source / "thv_llm", ignore=ignored)
        named = source / "thv_llm" / "__init__.py"
        named.write_text(re.sub(r"(?m)^__version__ = .*", f'__version__ = "{version}"', named.read_text()))
        shutil.copy(TOP / "thv_llm.py", source / "__main__.py")
        self.program.parent.mkdir(exist_ok=True)
        new = self.program.with_suffix(".new")
        zipapp.create_archive(source, new)
        new.rename(self.program)


class Home:
    """One user's machine."""

    def __init__(self, site: Site, number: int) -> None:
        self.site = site
        self.path, self.before = site.place / "home" / str(number), site.place / "before" / str(number)
        self.environ = {"HOME": str(self.path), "PATH": f"{self.path}/bin:/usr/bin:/bin"}
        self.claude = self.path / ".claude" / "settings.json"
        self.opencode = self.path / ".config" / "opencode" / "opencode.jsonc"
        for directory in (self.path, self.before):
            directory.mkdir(parents=True)

    def thv(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Run a command as a device manager does; return stdout and stderr."""
        done = subprocess.run(
            [sys.executable, "-I", str(self.site.program), *words],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            start_new_session=True,
            check=False,
        )
        assert done.returncode == code, (self.path.name, words, done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr

    def is_set_up_without_tools(self) -> None:
        """Nothing is asked, nothing of the administrator's is copied."""
        assert "Settings saved. No AI tool found yet" in self.thv("setup", "--lazy", "--yes")[1]
        assert self.thv("config", "get", "gateway_url")[0].strip() == self.site.first.url
        saved = self.path / ".config" / "toolhive" / "llm.toml"
        assert not saved.exists() or "gateway_url" not in saved.read_text()

    def get_tools(self) -> None:
        """The user installs two tools, by hand."""
        for root in (self.path, self.before):
            for name in ("claude", "opencode"):
                program = root / "bin" / name
                program.parent.mkdir(exist_ok=True)
                program.write_text("#!/bin/sh\n")
                program.chmod(0o755)
            for path, text in ((self.claude, CLAUDE), (self.opencode, OPENCODE)):
                file = root / path.relative_to(self.path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(text.encode())

    def is_configured_for(self, gateway: FakeGateway, said: str = "") -> None:
        """Both tools have this gateway in their files, or the proxy that has it."""
        err = self.thv("setup", "--lazy", "--yes", "--no-service")[1]
        assert said in err, err
        assert gateway.url in self.claude.read_text()
        assert f"http://127.0.0.1:{self.site.port}" in self.opencode.read_text()
        assert self.thv("config", "get", "gateway_url")[0].strip() == gateway.url

    def log_in(self) -> None:
        """The user logs in with a browser on another machine."""
        command = [
            sys.executable,
            "-I",
            str(self.site.program),
            "login",
            "--skip-browser",
            "--format",
            "json",
        ]
        with (
            FakeBrowser(str(self.site.provider.ca_file)) as browser,
            subprocess.Popen(
                command, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                stderr=subprocess.DEVNULL, start_new_session=True,
            ) as running,
        ):  # fmt: skip
            assert running.stdout
            browser.open(json.loads(running.stdout.readline())["url"])
            result = json.loads(running.stdout.readline())
        assert result["ok"], result

    def has_a_token(self) -> None:
        """The helper that Claude Code runs prints one."""
        helper = json.loads(self.claude.read_text())["apiKeyHelper"]
        done = subprocess.run(
            ["sh", "-c", helper], env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        self.site.provider.verify_access_token(done.stdout.strip())

    def is_as_before(self) -> None:
        """Nothing but what the user installed is left."""
        self.thv("uninstall", "--yes")
        found = subprocess.run(
            ["diff", "-r", str(self.before), str(self.path)], capture_output=True, text=True, check=False
        )
        assert (found.returncode, found.stdout) == (0, ""), found.stdout


def main(place: Path) -> None:
    """Roll out, and look at each home after each step."""
    own_etc(place)
    with site(place) as here:
        here.install("1.0.0")
        here.decide(here.first, str(here.provider.ca_file))
        homes = [Home(here, number) for number in range(HOMES)]

        in_each(homes, Home.is_set_up_without_tools)

        in_each(homes, Home.get_tools)
        in_each(homes, lambda home: home.is_configured_for(here.first, "thv-llm login"))
        homes[0].thv("status", code=4)
        in_each(homes, Home.log_in)
        in_each(homes, Home.has_a_token)
        logins = here.provider.count("token")
        assert logins == HOMES

        here.decide(here.second, str(here.provider.ca_file))
        assert "outdated" in homes[0].thv("status", code=1)[0]
        in_each(homes, lambda home: home.is_configured_for(here.second))
        in_each(homes[::5], Home.has_a_token)
        assert here.provider.count("token") == logins, "the sessions stay"

        assert "certificate" in homes[0].thv("models", code=6)[1]
        here.decide(here.second, str(here.provider.ca_file), str(place / "authority" / "ca.pem"))
        in_each(homes[::10], lambda home: home.thv("models"))

        here.install("1.0.1")
        assert "1.0.1" in homes[0].thv("version")[0]
        in_each(homes[::5], Home.has_a_token)
        in_each(homes, lambda home: home.is_configured_for(here.second, "already configured"))

        in_each(homes, Home.is_as_before)


def in_each(homes: list[Home], step: Callable[[Home], object]) -> None:
    """Take a step in every home, a few at a time; the first failure ends it."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(step, homes))


def own_etc(place: Path) -> None:
    """Put a copy over /etc that only this namespace sees."""
    copy = place / "etc"
    subprocess.run(["cp", "-a", "/etc", str(copy)], check=True)
    subprocess.run(["mount", "--bind", str(copy), "/etc"], check=True)


@contextlib.contextmanager
def site(place: Path) -> Iterator[Site]:
    """Start provider and gateways while the context lasts."""
    (place / "authority").mkdir()
    with FakeProvider() as provider:
        second = FakeGateway(provider.verify_access_token)
        second._context = World(place / "authority").context(Leaf())
        with FakeGateway(provider.verify_access_token) as first, second:
            yield Site(place, provider, first, second)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    assert threading.active_count() == 1
