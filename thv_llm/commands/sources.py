"""The settings that a run is given: flags, `THV_LLM_*` of the environment, and `--from FILE|URL`.

1. A flag wins over the environment, which wins over `--from`, which wins over what is saved.
2. `setup` and `config set` alone read the environment, and save it: tools that a desktop starts have
   another one than the shell.
3. What no user has typed (the environment, a URL without its hash) moves no session to another host: a
   new origin of gateway or issuer needs a yes at a terminal, and `--yes` is none.
4. What comes from a URL switches no check off. Without its hash it also names no file, no variable
   and no certificate authority.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from thv_llm import files, policy, sessions, settings, validation
from thv_llm.commands import parser as flags
from thv_llm.context import Context
from thv_llm.errors import NoResponseError, ThvLlmError, UsageError
from thv_llm.settings import BY_KEY, ROWS, Row, Settings

SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

CA_PEM = "ca_pem"
"""A member beside the settings: certificate authorities as text, which become `ca_file`."""
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
"""What is copied of a `ca_file`: there can be a private key in it, too."""
MAX_BYTES = 1 << 16
CHECKS = ("tls_skip_verify", "proxy.require_key")
"""What no document from a URL sets."""
OF_THIS_MACHINE = frozenset(row.key for row in ROWS if row.metavar == "FILE") | {"oidc.assertion_env", CA_PEM}
"""What a document from a URL sets only with its hash: files and variables, whose content would be sent."""
LEAVE_OUT = "correct it, or leave --from out"
ORIGINS = {"gateway_url": "gateway", "oidc.issuer": "issuer"}


class Given(NamedTuple):
    """What a run is given.

    Attributes:
        changes: values by key, checked; None for what goes back to the default.
        wanted: the saved settings with the changes laid over.
        ca_pem: what `keep_ca` must write before `ca_file` can be used; "" for nothing.
    """

    changes: dict[str, object]
    wanted: Settings
    ca_pem: str = ""


class _Source(NamedTuple):
    """Values by key, and where each is from ("" for a flag).

    Attributes:
        is_vouched_for: the user typed the values, or the hash of the document that they are in.
    """

    values: Mapping[str, object]
    names: Mapping[str, str]
    is_vouched_for: bool = True


def add_from(parser: argparse.ArgumentParser) -> None:
    """Add `--from`."""
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE|URL",
        help="read settings from a file like llm.toml; URL#sha256=… checks its content",
    )


def effective(args: argparse.Namespace, context: Context) -> Given:
    """Return what the command line, the environment and `--from` change, and the settings then in effect.

    Raises:
        UsageError: a value that is wrong, locked or not allowed; a move without consent.
    """
    decided = policy.load()
    path = context.paths.settings
    saved = flags.readable(path)
    found = [_environment(context), _Source(flags.typed(args), {})]
    ca_pem = ""
    if source := getattr(args, "source", None):
        ca_file = flags.typed(args).get("ca_file") or (saved.ca_file if saved else "")
        document = _document(str(source), str(ca_file or ""), context.environ)
        ca_pem = str(document.values.get(CA_PEM, ""))
        found.insert(0, document)
    of_key = {key: one for one in found for key in one.values}
    values = {key: one.values[key] for key, one in of_key.items() if key != CA_PEM}
    names = {key: one.names.get(key, "") for key, one in of_key.items()}
    changes = flags.given(values, saved, names)
    if ca_pem and "ca_file" not in changes:
        changes["ca_file"] = context.paths.ca
    else:
        ca_pem = ""
    settings.require_unlocked(changes, decided)
    now = settings.load(path, leaving_out=changes, decided=decided)
    checked = {key: value for key, value in changes.items() if not (ca_pem and key == "ca_file")}
    wanted = settings.overlaid(now, checked, decided)
    if ca_pem:
        wanted = wanted._replace(ca_file=context.paths.ca)
    if not getattr(args, "dry_run", False):
        unasked = {key for key, one in of_key.items() if not one.is_vouched_for}
        _require_consent(args, context, saved, wanted, {key: names[key] for key in unasked})
    return Given(changes, wanted, ca_pem)


def keep_ca(context: Context, ca_pem: str) -> None:
    """Write the certificate authorities that `--from` brought, for the login that comes next."""
    if ca_pem:
        files.private_directory(context.paths.directory)
        files.replace(context.paths.ca, ca_pem.encode())


def _environment(context: Context) -> _Source:
    """Return what `THV_LLM_*` says; an empty variable says nothing."""
    values: dict[str, object] = {}
    names = {}
    for name, text in sorted(context.environ.items()):
        row = settings.VARIABLES.get(name)
        if row and text:
            values[row.key], names[row.key] = _parsed(row, text), name
            is_secret = row.check is validation.file_or_stored and text != settings.STORED
            if is_secret and not os.path.isfile(text):  # the secret itself, perhaps
                raise UsageError(
                    f"{name} cannot be used",
                    why="it must be the path of a file with the secret",
                    next_step=f"unset {name}, then give {row.flag} {row.metavar}",
                )
    for why in settings.unknown_variables(context.environ).values():
        context.say(f"thv-llm: warning: {why}")
    return _Source(values, names, is_vouched_for=False)


def _parsed(row: Row, text: str) -> object:
    if row.type is bool:
        return SWITCHES.get(text.strip().lower(), text)
    if row.type is int:
        return flags.number(text.strip())
    if row.type is tuple:
        return flags.words(text) if row.splits else text.splitlines()
    return text


def _document(source: str, ca_file: str, environ: Mapping[str, str]) -> _Source:
    """Return the settings in a file, or at an https URL.

    Raises:
        UsageError: it cannot be used, or says what it must not.
        ThvLlmError: it cannot be read.
    """
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source)
    place, mark, digest = source.partition("#")
    if not mark or (not is_url and os.path.exists(source)):
        place, digest = source, ""
    elif not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", digest):
        raise UsageError(
            "--from cannot be used",
            why="after # there must be sha256= and the 64 hexadecimal digits of the content's hash",
            next_step="thv-llm setup --from URL#sha256=DIGITS",
        )
    name = _without_query(place) if is_url else place
    try:
        data = _fetched(place, name, ca_file, environ) if is_url else files.read(os.path.expanduser(place))
    except ThvLlmError as error:
        if is_url:
            raise
        raise _unusable(name, error.why, "thv-llm setup --from FILE|URL") from None
    if data is None:
        raise _unusable(name, "there is no such file", "thv-llm setup --from FILE|URL")
    found = hashlib.sha256(data).hexdigest()
    if digest and found != digest.partition("=")[2].lower():
        why = f"their SHA-256 is {found}, not the one in --from"
        raise _unusable(name, why, "ask your administrator for the line that holds the new one")
    values = policy.members(name, policy.in_utf8(data), LEAVE_OUT)
    if unknown := [key for key in values if key != CA_PEM and key not in BY_KEY]:
        raise _unusable(name, settings.no_setting(unknown[0]), LEAVE_OUT)
    if switched := [key for key in values if is_url and key in CHECKS]:
        raise _unusable(name, f"a URL cannot set {', '.join(switched)}", "give it as a flag")
    is_pinned = bool(digest) or not is_url
    if named := [key for key in values if not is_pinned and key in OF_THIS_MACHINE]:
        why = f"a URL without #sha256=… cannot set {', '.join(named)}"
        raise _unusable(name, why, f"thv-llm setup --from {name}#sha256=DIGITS")
    if CA_PEM in values and not _is_certificates(values[CA_PEM]):
        raise _unusable(name, f"{CA_PEM} must be certificates in PEM form", LEAVE_OUT)
    return _Source(values, dict.fromkeys(values, name), is_pinned)


def _unusable(name: str, why: str, next_step: str) -> UsageError:
    return UsageError(f"the settings from {name} are not used", why=why, next_step=next_step)


def _is_certificates(value: object) -> bool:
    import ssl

    try:
        ssl.create_default_context(cadata=str(value))
    except (ssl.SSLError, ValueError):
        return False
    return isinstance(value, str) and "-----BEGIN CERTIFICATE-----" in value


def _fetched(url: str, name: str, ca_file: str, environ: Mapping[str, str]) -> bytes:
    from thv_llm.net.http_client import HttpClient
    from thv_llm.oidc import http

    what = f"cannot read the settings from {name}"
    next_step = "give an https URL, or download it and give the file"
    if urlsplit(url).scheme.lower() != "https":
        raise UsageError(what, why="it is not an https URL", next_step=next_step)
    try:
        http.checked_url("URL", url, issuer=url)
    except ThvLlmError:  # whose text has the URL, with whatever secret is in it
        raise UsageError(what, why="it must be a plain URL, without user info", next_step=next_step) from None
    response = HttpClient(ca_file, environ=environ).send("GET", url, what=what, headers={"Accept": "*/*"})
    if response.status != 200:
        redirect = ", a redirect, which is not followed" if 300 <= response.status < 400 else ""
        why = f"{response.host} returned HTTP {response.status}{redirect}"
        raise NoResponseError(what, why=why, next_step=next_step)
    if len(response.body) > MAX_BYTES:
        raise UsageError(what, why=f"it is larger than {MAX_BYTES >> 10} KiB", next_step=next_step)
    return response.body


def _without_query(url: str) -> str:
    """Return a URL without what can be secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _require_consent(
    args: argparse.Namespace,
    context: Context,
    saved: Settings | None,
    wanted: Settings,
    unasked: Mapping[str, str],
) -> None:
    """Raise unless each origin stays, was typed, or gets a yes now; a session is not sent elsewhere."""
    before = saved or Settings()
    has_session = bool(sessions.load(context.paths.state).stored)
    moved = []
    for row in ROWS:
        old, new = str(before.get(row)), str(wanted.get(row))
        is_move = bool(old) or has_session or saved is None
        if row.key in ORIGINS and row.key in unasked and is_move and not policy.is_same_origin(old, new):
            moved.append((row, old, new))
    if not moved:
        return
    lines = [
        f"{unasked[row.key]} sets the {ORIGINS[row.key]} to {new}" + (f", now {old}" if old else "")
        for row, old, new in moved
    ]
    if getattr(args, "yes", False) or not context.has_terminal:
        command = "thv-llm config set" if args.verb == "config" else "thv-llm setup"
        raise UsageError(
            f"the {' and the '.join(ORIGINS[row.key] for row, _, _ in moved)} would change",
            why=f"{'; '.join(lines)}; only a flag, or a user at a terminal, can do that",
            next_step=" ".join([command, *(f"{row.flag} {new}" for row, _, new in moved)]),
        )
    lines.append("Requests of your tools would go there, with your access token.")
    context.confirm("\n".join(lines), default=False)


def exported(found: Settings, home: str) -> tuple[dict[str, Any], list[str]]:
    """Return the values that differ from the defaults, as tables for `--from`; and the keys left out.

    Left out is what is of this user or machine, and what no document can set.
    """
    tables: dict[str, Any] = {}
    left_out = []
    for row in ROWS:
        value = found.get(row)
        if value == row.default or value in (None, ""):
            continue
        is_own = row.key in (*CHECKS, "token_store", "service.network") or value == settings.STORED
        is_own = is_own or (row.metavar == "FILE" and str(value).startswith(os.path.join(home, "")))
        if row.key == "ca_file" and (found_there := CERTIFICATE.findall(files.read(str(value)) or b"")):
            tables[CA_PEM] = "\n".join(one.decode() for one in found_there) + "\n"
        elif is_own or row.key == "ca_file":
            left_out.append(row.key)
        else:
            table, _, name = row.key.rpartition(".")
            shown = list(value) if isinstance(value, tuple) else value
            (tables.setdefault(table, {}) if table else tables)[name] = shown
    return tables, left_out
