"""Which store a session is in: the one place that knows them all.

`choose` takes, in order: `token_store = "file"`; a backend that the user names to the `keyring`
package; the store of the last login; the system's own (macOS Keychain, Secret Service); the
encrypted file. Falling through to that file happens only where there is no keyring at all, and only
while there is no session: a store that is locked, silent or out of reach for now is an error,
because the session is in it. Each store is imported when it is chosen: a cold `token` pays for the
one it uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from thv_llm import agent_client, system
from thv_llm.secret import Secret
from thv_llm.store import AbsentError

if TYPE_CHECKING:
    from thv_llm.paths import Paths
    from thv_llm.store import SessionStore

PASSPHRASE_VARIABLE = "THV_LLM_PASSPHRASE"
WORDS = {
    "none": "no store: each token is got anew",
    "secret-service": "the Secret Service (your desktop's keyring)",
    "keyring": "the system's keyring",
    "file": "the encrypted file llm-session.enc",
}
"""What each is called towards people, by its `name`."""


def choose(
    paths: Paths,
    environ: Mapping[str, str],
    wanted: str = "",
    *,
    recorded: str = "",
    interactive: bool = False,
    ask_passphrase: Callable[[], Secret] | None = None,
    platform: str = system.NAME,
) -> SessionStore:
    """Return the store to use.

    Args:
        wanted: `token_store` of the settings: "", "keyring" or "file".
        recorded: `name` of the store of the last login, "" when there was none.
        interactive: a user is there to unlock things.
        ask_passphrase: asks for the passphrase of an encrypted file that has one.

    Raises:
        StoreError: the store that it must be cannot be used.
    """
    name = _name(environ, wanted, recorded, platform)
    if name == "secret-service" and not wanted and not recorded and _is_absent(environ, interactive):
        name = "file"
    return open_named(name, paths, environ, interactive=interactive, ask_passphrase=ask_passphrase)


def open_named(
    name: str,
    paths: Paths,
    environ: Mapping[str, str],
    *,
    interactive: bool = False,
    ask_passphrase: Callable[[], Secret] | None = None,
) -> SessionStore:
    """Return the store of that `name`, whatever else would be chosen by now."""
    if name == "file":
        from thv_llm.store.encrypted_file import EncryptedFile

        passphrase = environ.get(PASSPHRASE_VARIABLE)
        return EncryptedFile(
            paths.session_file,
            paths.session_file_key,
            passphrase=Secret(passphrase) if passphrase else None,
            ask=ask_passphrase if interactive else None,
        )
    if name == "keyring":
        from thv_llm.store.os_keyring import OsKeyring

        return OsKeyring(overflow_path=paths.session_overflow, interactive=interactive)
    from thv_llm.store.secret_service import SecretService

    return SecretService(environ, interactive=interactive)


def _is_absent(environ: Mapping[str, str], interactive: bool) -> bool:
    from thv_llm.store.secret_service import SecretService

    try:
        SecretService(environ, interactive=interactive).probe()
    except AbsentError:
        return True
    return False


def _name(environ: Mapping[str, str], wanted: str, recorded: str, platform: str) -> str:
    if wanted == "file":
        return "file"
    if platform == "win32" and not _is_keyring_named(environ):
        return "file"  # where Windows encrypts it; Credential Manager takes 1,280 characters
    if _is_keyring_named(environ):
        return "keyring"
    if recorded and not (wanted == "keyring" and recorded == "file"):
        return recorded
    return "secret-service" if platform.startswith("linux") else "keyring"


def _is_keyring_named(environ: Mapping[str, str]) -> bool:
    """Tell whether the user names a keyring backend; looks at a variable and one file's existence.

    Source: keyring.util.platform_.config_root of the `keyring` package.
    """
    home = agent_client.home(environ)
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    named = os.path.join(base, "python_keyring", "keyringrc.cfg")
    return bool(environ.get("PYTHON_KEYRING_BACKEND")) or os.path.exists(named)
