"""What differs by operating system: one module for each subject. Nothing else asks where it runs.

detach        a process that outlives its caller
file_system   exact renames, private directories, locks
memory        who can read ours, how threads share it; the limit of descriptors
peers         which user is at the other end of a connection
processes     other processes: who they are, what they listen on, signals
terminal      is there a user, and what do they type
windows, windows_pipe    what the modules above do on Windows

All raise what the system raises (OSError); the layers above put it into words.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

NAME = sys.platform
"""`linux`, `darwin` or `win32`: for tables that have a row for each system."""

NEEDS_INTERPRETER = sys.platform == "win32"
"""Whether a script can only be started by naming the program that runs it."""

OTHERS: tuple[str, ...] = () if sys.platform == "win32" else ("thv_llm.system.windows",)
"""How the names of modules begin that only another system can import."""

PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./-_")
"""What a POSIX shell takes as it is."""

BARE = PLAIN - frozenset("@%=,") | {"\\", "*"}
"""What PowerShell takes as it is, and cmd, too."""

QUOTES = "'‘’‚‛"
"""What PowerShell takes for single quotes."""

SEALS = sys.platform == "win32"
"""Whether the system itself encrypts for a user (`seal`)."""


def seal(data: bytes, bound_to: bytes) -> bytes:
    """Encrypt for this user of this machine; `bound_to` must be given again to decrypt it."""
    if sys.platform == "win32":
        from thv_llm.system import windows

        return windows.protect(data, bound_to)
    raise NotImplementedError


def unseal(data: bytes, bound_to: bytes) -> bytes:
    """Decrypt what `seal` returned.

    Raises:
        OSError: it is another user's, was changed, or this logon has no access to the user's keys.
    """
    if sys.platform == "win32":
        from thv_llm.system import windows

        return windows.unprotect(data, bound_to)
    raise NotImplementedError


def is_wsl(environ: Mapping[str, str]) -> bool:
    """Tell whether this is a Linux that runs inside Windows."""
    if NAME != "linux" or environ.get("WSL_DISTRO_NAME"):
        return NAME == "linux"
    try:
        with open("/proc/sys/kernel/osrelease", encoding="ascii", errors="replace") as file:
            return "microsoft" in file.read().lower()
    except OSError:
        return False


def has_display(environ: Mapping[str, str]) -> bool:
    """Tell whether a browser can be shown to the user of this session."""
    wanted = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return NAME in ("darwin", "win32") or any(environ.get(name) for name in wanted)


def run_key() -> Any:
    """Return what starts when this user logs in to Windows: `get` and `set` of command lines by name."""
    if sys.platform == "win32":
        from thv_llm.system import windows

        return windows.RunKey()
    raise NotImplementedError


def interpreter() -> str:
    """Return the Python that runs this, as the program that has streams."""
    above, name = sys.executable, "pythonw.exe"
    return above[: -len(name)] + "python.exe" if above.lower().endswith(name) else above


def windowless(python: str) -> str:
    """Return the program beside a Python that shows no window, where there is one."""
    found = os.path.join(os.path.dirname(python), "pythonw.exe")
    return found if os.path.exists(found) else python


def command_line(words: Sequence[str]) -> str:
    """Return a command as it is typed in the usual shell of this system."""
    if NAME == "win32":
        return " ".join(word if word and set(word) <= BARE else _for_powershell(word) for word in words)
    import shlex

    return shlex.join(words)


def in_powershell(text: str) -> str:
    """Return what PowerShell takes for this very text."""
    return "'" + "".join(character * 2 if character in QUOTES else character for character in text) + "'"


def _for_powershell(word: str) -> str:
    return in_powershell(word) if set(word) & set('"“”„$`') else f'"{word}"'  # which cmd understands


def with_setting(name: str, value: str, command: str) -> str:
    """Return the command line that runs a command with a variable set."""
    if NAME == "win32":
        return one_after_the_other(setting_of(name, value), command)
    import shlex

    return f"{name}={shlex.quote(value)} {command}"


def one_after_the_other(*commands: str) -> str:
    """Return commands as one line for the usual shell; that of Windows has no `&&` before version 7."""
    return ("; " if NAME == "win32" else " && ").join(commands)


def setting_the_clock(platform: str = NAME) -> tuple[str, ...]:
    """Return the command that sets this machine's clock by the network."""
    commands = {"darwin": ("sudo", "sntp", "-sS", "time.apple.com"), "win32": ("w32tm", "/resync")}
    return commands.get(platform, ("sudo", "timedatectl", "set-ntp", "true"))


def setting_of(name: str, value: str) -> str:
    """Return the command that sets a variable, as it is typed in the usual shell of this system."""
    if NAME == "win32":
        return f"$env:{name} = {in_powershell(value)}"
    if set(value) <= PLAIN:
        return f"export {name}={value}"
    import shlex

    return f"export {name}={shlex.quote(value)}"


def unsetting_of(name: str) -> str:
    """Return the command that takes a variable away again."""
    return f"Remove-Item Env:{name}" if NAME == "win32" else f"unset {name}"


def batch_file(line: str) -> bytes:
    """Return a batch file of one line, as cmd reads it: in the console's encoding, or one that it is told."""
    try:
        return f"{line}\r\n".encode("oem")
    except (UnicodeEncodeError, LookupError):  # LookupError: this is not Windows
        return f"@chcp 65001 >nul\r\n{line}\r\n".encode("utf-8", "replace")


def removal_of(path: str) -> str:
    """Return the command that removes a file."""
    return command_line(("del" if NAME == "win32" else "rm", path))


def user_id() -> int:
    """Return the number of this user, which Windows has none of."""
    return -1 if sys.platform == "win32" else os.getuid()
