"""A tool needs a token without a session: the service tells the user, who perhaps looks elsewhere.

Rule 1: the tool has its error at once; what is done here is done in a thread of its own, and whether
        it works changes nothing.
Rule 2: at most once in ten minutes for this installation, also across restarts of the service: the
        time of a file tells when it was last.
Rule 3: only where a desktop can show it; never in CI, nor after a logout, which was the user's own wish.
Rule 4: the text is constant: no name of a tool, no word of a server.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from thv_llm import files, log, paths, sessions, system
from thv_llm.errors import ThvLlmError
from thv_llm.service import background
from thv_llm.store.secret_service import bus_address
from thv_llm.system import detach

if TYPE_CHECKING:
    from thv_llm.paths import Paths
    from thv_llm.settings import Settings

PAUSE_S = 600.0
TITLE = "thv-llm: login required"
TEXT = "An AI tool needs the LLM gateway. Run: thv-llm login"
TIMEOUT_S = 5.0
PROGRAM = "org.freedesktop.Notifications"


def notify(environ: Mapping[str, str], platform: str) -> bool:
    """Show the constant text on the desktop; False where there is no way to.

    Raises:
        OSError and what jeepney raises: the desktop does not take it.
    """
    if platform == "darwin":
        import subprocess

        script = f'display notification "{TEXT}" with title "{TITLE}"'
        subprocess.run(["osascript", "-e", script], check=True, capture_output=True, timeout=TIMEOUT_S)
        return True
    address = bus_address(environ) if platform.startswith("linux") else ""
    if not address:
        return False
    from jeepney import DBusAddress, new_method_call
    from jeepney.io.blocking import DBusConnection, prep_socket
    from jeepney.wrappers import unwrap_msg

    there = DBusAddress("/org/freedesktop/Notifications", PROGRAM, PROGRAM)
    body: tuple[Any, ...] = ("thv-llm", 0, "dialog-password", TITLE, TEXT, [], {}, -1)
    sock = prep_socket(address, timeout=TIMEOUT_S)
    with contextlib.closing(sock), contextlib.closing(DBusConnection(sock)) as connection:
        message = new_method_call(there, "Notify", "susssasa{sv}i", body)
        unwrap_msg(connection.send_and_get_reply(message, timeout=TIMEOUT_S))
    return True


class LoginOnDemand:
    """Asks for a login, as the setting `login.on_demand` says.

    Args:
        environ: of the service, which shows what it was started from; with the saved network.
        show: shows a notification; False where there is no way to.
        start: starts a program that is not waited for.
    """

    def __init__(
        self,
        where: Paths,
        wanted: Settings,
        environ: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
        platform: str = system.NAME,
        show: Callable[[Mapping[str, str], str], bool] = notify,
        start: Callable[[list[str], Mapping[str, str]], None] = detach.start,
    ) -> None:
        self._where = where
        self._environ = dict(environ)  # without the proxy's password, which the service adds to its own
        self._now = now
        self._platform = platform
        self._show = show
        self._start = start
        is_possible = wanted.oidc.grant == "user" and not environ.get("CI") and self._has_desktop()
        self._how = wanted.login_on_demand if is_possible else "off"
        self._turn = threading.Lock()

    def ask(self) -> None:
        """Ask the user, unless that is not wanted or was done a moment ago. Never waits, never fails."""
        if self._how == "off" or not self._turn.acquire(blocking=False):
            return
        try:
            if self._is_due():
                files.replace(self._where.login_asked, b"")
                threading.Thread(target=self._tell, name="login-on-demand", daemon=True).start()
        except (ThvLlmError, OSError, RuntimeError):  # a full disk, no thread left: then not
            pass
        finally:
            self._turn.release()

    def _has_desktop(self) -> bool:
        if self._platform.startswith("linux"):
            return any(self._environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
        return self._platform in ("darwin", "win32")

    def _is_due(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            if 0 <= self._now() - os.stat(self._where.login_asked).st_mtime < PAUSE_S:
                return False
        return not sessions.load(self._where.state).logged_out

    def _tell(self) -> None:
        try:
            if self._how == "browser":
                self._start(paths.own_command("login"), background.environment(self._environ))
                log.info("a tool needs a login: opened the browser")
            elif self._show(self._environ, self._platform):
                log.info("a tool needs a login: told the user")
        except Exception as error:  # no caller waits for it, so none waits for its failure
            log.info(f"a tool needs a login, and the user could not be told ({type(error).__name__})")
