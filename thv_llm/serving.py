"""The service itself: token source, agent and proxy put together and run until told to stop.

The same in the foreground, detached, and under systemd or launchd. It runs without a session,
too: tools then get a clear refusal, and a login made by another process is picked up.

Order: take the lock `service` (only one at a time), open the proxy's port, then the agent's
socket, write the pid file, report ready. On the way out: nothing new is taken, running streams
get `DRAIN_S`, a refresh that is under way is waited for, then the pid file goes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from thv_llm import files, log, settings, state, tokens
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.files import LockHeldError, lock
from thv_llm.service import answers, background, challenge, heap, processes, record
from thv_llm.service.agent import Agent
from thv_llm.service.deadlines import DRAIN_S, REFRESH_S

if TYPE_CHECKING:
    from thv_llm.paths import Paths
    from thv_llm.proxy.server import Proxy
    from thv_llm.proxy.stats import Exchange
    from thv_llm.secret import Secret
    from thv_llm.service.record import Record
    from thv_llm.tokens import AccessToken

LOOK_EVERY_S = 30.0
"""How soon a service notices that its directory was deleted: it would hold the port for ever."""
KEYRING_MODULES = {
    "linux": ("jeepney.bus", "jeepney.io.blocking", "jeepney.wrappers"),
    "darwin": ("keyring.backends.macOS",),
}
"""What the stores import from other packages in the file when they are first used."""
LOCK_WAIT_S = 1.0
"""A predecessor that is just ending may need a moment."""


class AlreadyRunningError(ThvLlmError):
    """Another process of ours is the service, or about to be."""


class Service:
    """One run of the service.

    Args:
        watch: told of every exchange that the proxy has finished.
        look_every_s: how often it looks whether its directory is still there.

    Raises:
        NotConfiguredError: there is no gateway to serve.
    """

    def __init__(
        self,
        where: Paths,
        environ: Mapping[str, str],
        *,
        now: Callable[[], float],
        with_proxy: bool,
        watch: Callable[[Exchange], None],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._where = where
        self._look_every_s = look_every_s
        self._now = now
        self.settings = settings.load(where.settings)
        self.settings.require_configured()
        self._key = state.local_key(where)
        self._source = tokens.open(self.settings, where, environ, now=now)
        self._stopping = threading.Event()
        self._record: Record | None = None
        self._expires_at: float | None = None
        self._adopted_until: float | None = None
        self._make_proxy = partial(self._new_proxy, environ, watch) if with_proxy else None
        self._proxy: Proxy | None = None
        self._agent = Agent(where.socket, self._token, self._control)
        # It has the next token before a tool must wait for it. A daemon, because a provider may hang.
        self._keeper = threading.Thread(
            target=lambda: tokens.keep_fresh(self._token, self._stopping, now=self._now),
            name="keep-fresh",
            daemon=True,
        )

    def _new_proxy(self, environ: Mapping[str, str], watch: Callable[[Exchange], None]) -> Proxy:
        from thv_llm.proxy.server import Proxy
        from thv_llm.proxy.upstream import Gateway

        return Proxy(
            self.settings.proxy_port,
            Gateway.configured(self.settings, environ),
            get_token=lambda rejected: self._token(rejected=rejected).value,
            token_at_hand=self._source.at_hand,
            local_key=self._key,
            require_key=self.settings.require_key,
            report=watch,
        )

    def run(self, ready: Callable[[Record], None]) -> None:
        """Serve until `stop` is called or the process is told to end.

        Args:
            ready: called when everything is open.

        Raises:
            AlreadyRunningError: another process is the service.
            ThvLlmError: the port or the socket cannot be opened.
        """
        heap.share()
        with contextlib.ExitStack() as closing:
            locked = self._be_the_only_one(closing)
            # On the way out what is registered last comes first.
            closing.callback(self._remove_record)  # until then this process is there, and ending
            closing.callback(self._settle)
            closing.callback(self._agent.stop)
            if self._make_proxy:
                self._proxy = self._open_port(self._make_proxy())
                closing.callback(self._proxy.stop, DRAIN_S)
            self._agent.start()
            closing.callback(self._agent.close)
            port = self._proxy.port if self._proxy else None
            self._record = record.of_this_process(self._where, port=port, now=self._now())
            record.write(self._where.pid, self._record)
            ready(self._record)
            self._keeper.start()
            load_rest()
            self._wait(locked)

    def stop(self) -> None:
        """Make `run` return, in the order of the module's promise."""
        self._stopping.set()

    def _be_the_only_one(self, closing: contextlib.ExitStack) -> os.stat_result:
        """Take the lock, and return what file it is."""
        path = self._where.lock("service")
        try:
            closing.enter_context(lock(path, timeout_s=LOCK_WAIT_S, what="the service"))
            return os.stat(path)
        except LockHeldError as error:
            raise AlreadyRunningError("the service is already running", why=error.why) from None

    def _wait(self, locked: os.stat_result) -> None:
        """Wait for the order to stop, or until another service could take a lock like ours."""
        while not self._stopping.wait(self._look_every_s):
            if not files.is_still(self._where.lock("service"), locked):
                log.info("our directory is gone, so nobody could find this service")
                self.stop()

    def _settle(self) -> None:
        """Wait for a refresh that is under way: what it brings must be stored, or the session is lost."""
        if self._keeper.ident:
            self._keeper.join(REFRESH_S)
        self._source.settle()

    def _remove_record(self) -> None:
        """Remove the pid file, unless another service has written it: our directory was replaced."""
        if self._record and record.read(self._where.pid) == self._record:
            record.remove(self._where.pid)

    def _token(
        self,
        min_valid_s: float = tokens.MIN_VALID_S,
        *,
        rejected: Secret | None = None,
        newer_than: float | None = None,
    ) -> AccessToken:
        """Return a fresh token, and remember until when it is good, for who asks for our status."""
        token = self._source.get(min_valid_s, rejected=rejected, newer_than=newer_than)
        self._expires_at = token.expires_at
        return token

    def _open_port(self, proxy: Proxy) -> Proxy:
        port = self.settings.proxy_port
        try:
            proxy.start()
            return proxy
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise background.taken(port, processes.listener(port)) from None
            why = error.strerror or type(error).__name__
            raise ThvLlmError(f"cannot listen on port {port} of 127.0.0.1", why=why) from None

    def _control(self, verb: str, rest: str) -> str:
        """Answer what the agent is asked beside tokens."""
        if verb == "challenge":
            return challenge.proof(self._key, rest)
        if verb == "status":
            return json.dumps(self.facts())
        if verb == "forget":
            self._source.forget()
            self._expires_at = self._adopted_until = None
        elif verb == "adopt":
            token, expires_at = answers.token(rest)
            self._source.hold(token, expires_at)
            self._expires_at = self._adopted_until = expires_at
        elif verb == "stop":
            self.stop()
        else:
            raise UsageError("the service does not know that word")
        return ""

    def facts(self) -> dict[str, object]:
        """Return what may be known of this run; no secret."""
        return {
            "record": self._record.to_json() if self._record else None,
            "token_expires_at": self._expires_at,
            "adopted_until": self._adopted_until,
            "proxy": asdict(self._proxy.stats()) if self._proxy else None,
        }


def load_rest() -> None:
    """Import what is otherwise imported when it is first needed.

    The program's file may be replaced or deleted while the service runs from it.
    """
    import_module("thv_llm.edit.change")
    for package in ("oidc", "service", "store", "tokens"):
        places = import_module(f"thv_llm.{package}").__path__
        for found in pkgutil.iter_modules(places, f"thv_llm.{package}."):
            import_module(found.name)
    for name in KEYRING_MODULES.get(sys.platform, ()):
        import_module(name)


@contextlib.contextmanager
def ended_by_signals(service: Service, on_first: Callable[[], None]) -> Iterator[None]:
    """End the service on SIGTERM and SIGINT; a second SIGINT ends it without waiting.

    Args:
        on_first: called once, when the end begins.
    """
    seen = threading.Event()

    def handle(number: int, _frame: object) -> None:
        if seen.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not seen.is_set():
            seen.set()
            on_first()
        service.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_start(run: Record) -> None:
    """Record what runs, for whoever reads the log."""
    log.info(f"thv-llm {run.version} started ({background.described(run)})")
