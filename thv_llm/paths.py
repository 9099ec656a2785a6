"""Every path we use, and the command lines by which we start ourselves.

The directory is `$THV_LLM_HOME`, else `$XDG_CONFIG_HOME/toolhive`, else `~/.config/toolhive`,
on Linux and macOS alike; `%LOCALAPPDATA%/toolhive` on Windows. The socket goes to
`$XDG_RUNTIME_DIR/toolhive` when that directory is private, because a home directory can be on a
file system without sockets.

Pure but for one look at `$XDG_RUNTIME_DIR`. Plain strings and a plain class: importing pathlib
or dataclasses would cost a cold `token` several milliseconds. How the directory and the socket
are found is in `agent_client`, which has no time to import this module.
"""

from __future__ import annotations

import os
import stat

from thv_llm import agent_client, system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from thv_llm.errors import ThvLlmError

MAX_SOCKET_PATH_BYTES = 103
"""Room in `sockaddr_un.sun_path` on macOS (104, with its NUL); Linux has 108."""

LOCKS = ("session", "login", "state", "setup", "settings", "service")


class Paths:
    """Absolute paths of one user's files.

    Attributes:
        directory: ours, 0700; everything but (perhaps) the socket lies in it.
        home: the user's home directory, for the tools' files; "" when there is none.
        socket: where the agent listens, or where `$THV_LLM_SOCKET` says it does.
    """

    def __init__(self, directory: str, home: str, socket: str) -> None:
        self.directory = directory
        self.home = home
        self.socket = socket

        self.settings = self._own("llm.toml")  # which a user can edit
        self.ca = self._own("llm-ca.pem")  # the certificate authorities that `setup --from` brought
        self.state = self._own("llm-state.json")  # undo record, local keys, session facts

        # What direct tools run for a token, and what a user types as `thv-llm` where a script cannot
        # be started by its name.
        self.helper = self._own("bin", "thv-llm-token.py" if system.NEEDS_INTERPRETER else "thv-llm-token")
        self.launcher = self._own("bin", "thv-llm.cmd")

        self.pid = self._own("llm-proxy.pid")  # which process is our service
        self.log = self._own("llm-proxy.log")  # of the service; `.1` is the one before

        # The session, encrypted, when no keyring holds it; its key when no passphrase is set; and how the
        # files begin that hold, encrypted, what is too long for the keyring with their key.
        self.session_file = self._own("llm-session.enc")
        self.session_file_key = self._own("llm-session.key")
        self.session_overflow = self._own("llm-session-long.enc")

        self.discovery_cache = self._own("llm-discovery.json")  # the provider's metadata, kept for a day
        # When and why the last refresh failed; remembered for a few seconds, no token in it.
        self.refresh_failure = self._own("llm-refresh-failure.json")
        # Its time tells when the user was last told that a tool needs a login.
        self.login_asked = self._own("llm-login-asked")
        self.login_url = self._own("llm-login.url")  # where the login that is under way can be finished

    def _own(self, *names: str) -> str:
        return os.path.join(self.directory, *names)

    def lock(self, name: str) -> str:
        """Return the lock file of that name, one of `LOCKS`."""
        return self._own(f"llm-{name}.lock")

    def files(self) -> tuple[str, ...]:
        """Return every file that can be ours, but for locks and socket."""
        session = (self.session_file, self.session_file_key, f"{self.session_file}.broken")
        memory = (self.discovery_cache, self.refresh_failure, self.login_asked, self.login_url)
        service = (self.pid, self.log, f"{self.log}.1", *memory)
        commands = (self.helper, self.launcher) if system.NEEDS_INTERPRETER else (self.helper,)
        return (self.settings, self.ca, self.state, *commands, *session, *service)


def find(environ: Mapping[str, str]) -> Paths:
    """Return the paths that hold for this environment.

    Raises:
        ThvLlmError: there is no place for our directory.
    """
    directory = agent_client.directory(environ)
    if not directory:
        raise no_home(environ)
    return Paths(directory, agent_client.home(environ), agent_client.socket_path(environ, directory))


def no_home(environ: Mapping[str, str]) -> ThvLlmError:
    """Return the error of a user without a home directory: no relative path must stand for one."""
    from thv_llm.errors import ThvLlmError

    variable, path = ("LOCALAPPDATA", "C:\\PATH") if system.NAME == "win32" else ("HOME", "/PATH")
    named = environ.get(variable)
    is_not = f"{variable} is not set, and this user has no account"
    return ThvLlmError(
        "there is no home directory",
        why=f"{variable} is a relative path: {named!r}" if named else is_not,
        next_step=f"{system.setting_of(variable, path)} (an absolute path), and try again",
    )


def require_own_home(where: Paths) -> None:
    """Raise when this process is root in the home directory of another user (`sudo` can keep HOME).

    What it would make there is root's, and the user could neither change nor remove it.
    """
    from thv_llm.errors import ThvLlmError
    from thv_llm.system import file_system

    owner = file_system.other_owner(where.home) if where.home else ""
    if owner:
        raise ThvLlmError(
            "thv-llm writes nothing as root in the home directory of another user",
            why=f"{where.home} belongs to {owner}, who could not change the files later",
            next_step=f"run the same command as {owner}, without sudo",
        )


def require_socket(path: str) -> None:
    """Raise unless a socket can have this path; on Windows a file has it, which names a pipe."""
    if system.NAME == "win32":
        return
    from thv_llm.errors import ThvLlmError

    what = f"there can be no socket at {path}"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ThvLlmError(
            what,
            why=f"a socket's path can have {MAX_SOCKET_PATH_BYTES} bytes, this one is longer",
            next_step="set THV_LLM_SOCKET to a shorter path in a directory of your own",
        )
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # nothing is there
        return
    if not stat.S_ISSOCK(mode):  # perhaps a user's, so it is only moved
        kind = "directory" if stat.S_ISDIR(mode) else "file"
        away = system.command_line(("mv", path, f"{path}.old"))
        next_step = system.one_after_the_other(away, "thv-llm setup")
        raise ThvLlmError(what, why=f"there is a {kind} of that name", next_step=next_step)


def program() -> str:
    """Return the absolute path of what is running: the `.pyz`, or the launcher of a checkout."""
    # In a zipapp this file is PATH.pyz/thv_llm/paths.py; in a checkout TOP/thv_llm/paths.py.
    above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return above if os.path.isfile(above) else os.path.join(above, "thv_llm.py")


def own_command(*arguments: str) -> list[str]:
    """Return the command line that runs this very program again, independent of PATH and cwd.

    `-I` keeps the caller's `PYTHONPATH` and current directory out of the child.
    """
    return [system.interpreter(), "-I", program(), *arguments]


def text(name: str) -> str:
    """Return the text of a file of the package that is no module, such as `manual/json.md`."""
    from importlib import resources  # which costs `--version` more than all the rest of it

    return resources.files("thv_llm").joinpath(name).read_text("utf-8")


def bundled(name: str) -> str:
    """Return the text of a file that lies beside the package in the `.pyz`; empty in a checkout."""
    import zipfile

    if not zipfile.is_zipfile(program()):
        return ""
    with zipfile.ZipFile(program()) as archive:
        return archive.read(name).decode() if name in archive.namelist() else ""
