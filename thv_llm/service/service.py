"""The service itself: token source, agent and proxy put together and run until told to stop.

The same in the foreground, detached, and under systemd or launchd. It runs without a session,
too: tools then get a clear refusal, and a login made by another process is picked up.

Order: take the lock `service` (only one at a time), open the agent's socket, then the proxy's
port, write the pid file, report ready. On the way out: nothing new is taken, running streams
get `DRAIN_S`, a refresh that is under way is waited for, then the pid file goes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pkgutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from thv_llm import agent_client, files, log, sessions, settings, state, system, tokens
from thv_llm.errors import LoginRequiredError, ThvLlmError, UsageError
from thv_llm.files import LockHeldError, lock
from thv_llm.proxy.stats import LastError, Outcome, ToolStats
from thv_llm.service import agent_protocol, background, network, pid_file
from thv_llm.service.agent import Agent
from thv_llm.service.on_demand import LoginOnDemand
from thv_llm.service.pid_file import DRAIN_S, REFRESH_S
from thv_llm.system import memory, peers, processes
from thv_llm.tokens.session import Stores

if TYPE_CHECKING:
    from thv_llm.paths import Paths
    from thv_llm.proxy.forward import Refusal
    from thv_llm.proxy.server import Proxy
    from thv_llm.proxy.stats import LogEntry
    from thv_llm.secret import Secret
    from thv_llm.service.pid_file import ServiceRun
    from thv_llm.tokens import AccessToken

LOOK_EVERY_S = 5.0
"""How soon a service notices that its socket or its directory is missing."""
KEYRING_MODULES = {
    "linux": ("jeepney.bus", "jeepney.io.blocking", "jeepney.wrappers"),
    "darwin": ("keyring.backends.macOS",),
}
"""What the stores import from other packages in the file when they are first used."""
END_TOLD_S = (sessions.SOON_S, 3600.0)
LOCK_WAIT_S = 1.0
"""A predecessor that is just ending needs a moment."""


class AlreadyRunningError(ThvLlmError):
    """Another process of ours is the service, or about to be."""


class Service:
    """One run of the service.

    Args:
        watch: told of every request to the proxy that has ended.
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
        watch: Callable[[LogEntry], None],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._where = where
        self._look_every_s = look_every_s
        self._now = now
        self.settings = settings.load(where.settings)
        self.settings.require_configured()
        self._key = state.local_key(where)
        self._tools = ToolStats()
        self._keys: Mapping[bytes, str] = {}
        self._keys_of: os.stat_result | None = None
        self._environ = environ = network.environment(self.settings, environ)
        self._source = tokens.open(self.settings, where, environ, now=now)
        self._stopping = threading.Event()
        self._record: ServiceRun | None = None
        self._failed: tuple[float, ThvLlmError] | None = None
        self._adopted_until: float | None = None
        self._is_deaf = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._lacks_headers = True
        self._end_told_s = math.inf
        self._watch = watch
        self._with_proxy = with_proxy
        self._proxy: Proxy | None = None
        self._agent = Agent(where.socket, self._token, self._control, told=self._count_call)
        self._on_demand = LoginOnDemand(where, self.settings, environ, now=now)
        # It has the next token before a tool must wait for it. A daemon, because a provider can hang.
        self._keeper = threading.Thread(
            target=lambda: tokens.keep_fresh(partial(self._token, asks_user=False), self._stopping, now=now),
            name="keep-fresh",
            daemon=True,
        )

    def _open_proxy(self, descriptors: int) -> Proxy:
        """Make the proxy, and open its port."""
        from thv_llm.proxy.server import Proxy
        from thv_llm.proxy.upstream import Gateway
        from thv_llm.tools.registry import TOOLS

        port = self.settings.proxy_port
        proxy = Proxy(
            port,
            Gateway.configured(self.settings, self._environ),
            get_token=self._token_for_proxy,
            token_at_hand=lambda: None if self._lacks_headers else self._source.at_hand(),
            headers=lambda: self._headers,
            local_key=self._key,
            keys=self._accepted,
            tools=self._tools,
            no_token={tool.id: tool.no_token_status for tool in TOOLS},
            require_key=self.settings.require_key,
            report=self._watch,
            descriptors=descriptors,
        )
        try:
            proxy.start()
        except OSError as error:
            if error.errno in peers.TAKEN:
                raise background.taken(port, processes.listener(port)) from None
            why = error.strerror or type(error).__name__
            raise ThvLlmError(f"cannot listen on port {port} of 127.0.0.1", why=why) from None
        return proxy

    def run(self, ready: Callable[[ServiceRun], None]) -> None:
        """Serve until `stop` is called or the process is told to end.

        Args:
            ready: called when everything is open.

        Raises:
            AlreadyRunningError: another process is the service.
            ThvLlmError: the port or the socket cannot be opened.
        """
        memory.share_one_heap()
        with contextlib.ExitStack() as closing:
            descriptors = closing.enter_context(memory.many_descriptors())
            locked = self._be_the_only_one(closing)
            # On the way out what is registered last comes first.
            closing.callback(self._remove_record)  # until then this process is there, and ending
            closing.callback(self._settle)
            closing.callback(self.stop)  # a failure must not wait for a thread that does not know of it
            closing.callback(self._agent.stop)
            self._agent.start()  # before a crowd at the port can leave no descriptor for it
            if self._with_proxy:
                self._proxy = self._open_proxy(descriptors)
                closing.callback(self._proxy.stop, DRAIN_S)
            closing.callback(self._agent.close)
            port = self._proxy.port if self._proxy else None
            self._record = pid_file.of_this_process(self._where, port=port, now=self._now())
            pid_file.write(self._where.pid, self._record)
            ready(self._record)
            self._complete_network()
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
                log.info("the settings directory was removed, and with it what this service is for")
                self.stop()
            else:
                self._listen_again()
                self._complete_network()
                self._renew_keys()
                self._tell_end()

    def _complete_network(self) -> None:
        """Fetch the proxy's password as soon as its store is unlocked."""
        if network.needs_password(self._environ):
            with contextlib.suppress(ThvLlmError):  # the next refresh will say what is wrong with the store
                network.add_password(self.settings, self._where, self._environ)

    def _tell_end(self) -> None:
        """Say in the log that the session is about to end: a day ahead, and an hour."""
        left_s = None
        with contextlib.suppress(ThvLlmError):  # a record that cannot be read is told elsewhere
            known = sessions.load(self._where.state).of(self.settings.session_id)
            left_s = known.ending_s(self._now())
        passed = [limit_s for limit_s in END_TOLD_S if left_s is not None and left_s < limit_s]
        told_s = min(passed, default=math.inf)
        if left_s is not None and told_s < self._end_told_s:
            log.info(f"the session ends in {left_s / 3600:.1f} h; next: thv-llm login --force")
        self._end_told_s = told_s

    def _renew_keys(self) -> None:
        """Accept the key of a tool no more that was torn down; a new one is looked for when it is shown."""
        if self._proxy:
            self._proxy.keys.renew()

    def _listen_again(self) -> None:
        try:
            path = agent_client.socket_path(self._environ, self._where.directory)
            if self._agent.listen_again(path):
                log.info(f"the agent's socket was removed; listening at {path}")
                self._is_deaf = False
        except ThvLlmError as error:
            if not self._is_deaf:
                log.info(f"the agent's socket was removed: {error.what}: {error.why}")
            self._is_deaf = True

    def _settle(self) -> None:
        """Wait for a refresh that is under way: what it brings must be stored, or the session is lost."""
        if self._keeper.ident:
            self._keeper.join(REFRESH_S)
        self._source.settle()

    def _remove_record(self) -> None:
        """Remove the pid file, unless another service has written it: our directory was replaced."""
        if self._record and pid_file.read(self._where.pid) == self._record:
            pid_file.remove(self._where.pid)

    def _token(
        self,
        min_valid_s: float = tokens.MIN_VALID_S,
        *,
        rejected: Secret | None = None,
        newer_than: float | None = None,
        asks_user: bool = True,
    ) -> AccessToken:
        """Return a fresh token; a failure is remembered for the status.

        Args:
            asks_user: tell the user when none can be had without a login.
        """
        try:
            token = self._source.get(min_valid_s, rejected=rejected, newer_than=newer_than)
        except ThvLlmError as error:
            if not self._failed or self._failed[1].cause != error.cause:
                log.info(f"no access token: {error.cause}")
            self._failed = (self._now(), error)
            if asks_user and isinstance(error, LoginRequiredError):
                self._on_demand.ask()
            raise
        self._failed = None
        return token

    def _count_call(self, tool: str, error: ThvLlmError | None) -> None:
        """Note a call of the credential helper."""
        now = self._now()
        failed = LastError(now, 0, Outcome.PROXY, error.why or error.what) if error else None
        self._tools.count(tool, now, failed)

    def _accepted(self) -> Mapping[bytes, str]:
        """Return the keys that the state file has now; one that is damaged or gone changes nothing."""
        try:
            found = os.stat(self._where.state)
        except OSError:
            return self._keys
        if files.differ(found, self._keys_of):
            known = state.load_if_sound(self._where.state)
            self._keys, self._keys_of = known.accepted if known else self._keys, found
        return self._keys

    def _token_for_proxy(self, refusal: Refusal | None) -> Secret:
        """Return a token; after a 401 not the refused one, after a 403 one that came later."""
        if self._lacks_headers:
            self._headers = self._all_headers()
            self._lacks_headers = False
        if refusal is None:
            return self._token().value
        if refusal.status == 401:
            return self._token(rejected=refusal.token).value
        return self._token(newer_than=refusal.since).value

    def _all_headers(self) -> list[tuple[bytes, bytes]]:
        """Return what each request to the gateway gets; the secret ones can be in a store that is locked."""
        stores = Stores(self.settings, self._where, self._environ)
        secret = {name: value.reveal() for name, value in stores.secret_headers().items()}
        return [(name.encode(), value.encode()) for name, value in (self.settings.headers | secret).items()]

    def _control(self, verb: str, rest: str) -> str:
        """Serve the agent's verbs beside `token`."""
        if verb == "challenge":
            return self._key.proof(rest)
        if verb == "status":
            return json.dumps(self.facts())
        if verb == "forget":
            self._source.forget()
            self._lacks_headers = True
            self._adopted_until = self._failed = None
        elif verb == "adopt":
            token, expires_at = agent_protocol.token(rest)
            self._source.hold(token, expires_at)
            self._adopted_until, self._failed = expires_at, None
        elif verb == "keys":
            self._renew_keys()
        elif verb == "stop":
            self.stop()
        else:
            raise UsageError("the service does not know that word")
        return ""

    def facts(self) -> dict[str, object]:
        """Return what can be known of this run; no secret."""
        remaining_s, failed = self._source.remaining_s(), None
        if self._failed:
            at, error = self._failed
            failed = {"at": at, "why": error.cause, "next": error.next_step}
        proxy = asdict(self._proxy.stats()) if self._proxy else {}
        proxy.pop("tools", None)  # told for the credential helper's callers as well
        return {
            "record": asdict(self._record) if self._record else None,
            "token_expires_at": self._now() + remaining_s if remaining_s else None,
            "token_remaining_s": remaining_s,
            "refresh_failed": failed,
            "adopted_until": self._adopted_until,
            "proxy": proxy or None,
            "tools": {name: asdict(of) for name, of in self._tools.figures(self._now()).items()},
        }


def load_rest() -> None:
    """Import what is otherwise imported when it is first needed.

    The program's file can be replaced or deleted while the service runs from it.
    """
    import_module("thv_llm.edit.model")
    for package in ("net", "oidc", "service", "store", "system", "tokens"):
        places = import_module(f"thv_llm.{package}").__path__
        for found in pkgutil.iter_modules(places, f"thv_llm.{package}."):
            if not found.name.startswith(system.OTHERS):
                import_module(found.name)
    with contextlib.suppress(ModuleNotFoundError):  # a store that needs it will say so
        for name in KEYRING_MODULES.get(system.NAME, ()):
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


def log_start(run: ServiceRun) -> None:
    """Record what runs, for readers of the log."""
    log.info(f"thv-llm {run.version} started ({background.described(run)})")
