"""`llm.toml`: the connection settings.

`ROWS` is the one place that knows a setting: its key in the file, its flag, its check, its
default and its help. `config show`, the flags of `setup` and `config set`, and the README's
table are made from it. A person may edit the file: comments and order survive `save`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from thv_llm import files, validation
from thv_llm.errors import NotConfiguredError, ThvLlmError, UsageError, shown
from thv_llm.validation import Value

if TYPE_CHECKING:
    from thv_llm.paths import Paths

LOCK_TIMEOUT_S = 10.0
NEW_FILE = "# Settings of thv-llm; `thv-llm config show` prints all of them with their defaults.\n"
TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false", tuple: "a list of strings"}


class OidcSettings(NamedTuple):
    """What an OIDC public client has to know about its provider."""

    issuer: str = ""
    client_id: str = ""
    scopes: tuple[str, ...] = ("openid", "offline_access")
    audience: str = ""
    resource: str = ""
    prompt: str = ""
    callback_port: int = 0
    redirect_host: str = "127.0.0.1"

    @property
    def parameters(self) -> dict[str, str]:
        """What every request says: who asks, and for whom the tokens are to be; empty ones are not sent."""
        return {"client_id": self.client_id, "audience": self.audience, "resource": self.resource}


class Settings(NamedTuple):
    """Every setting in effect, defaults included. `ROWS` says what each field means."""

    gateway_url: str = ""
    tls_skip_verify: bool = False
    ca_file: str = ""
    anthropic_path_prefix: str | None = None
    models: tuple[str, ...] = ()
    token_store: str = ""
    proxy_port: int = 14000
    require_key: bool = True
    bedrock_compat: bool = False
    bedrock_enable_1m: bool = False
    oidc: OidcSettings = OidcSettings()

    def require_configured(self) -> None:
        """Raise NotConfiguredError, naming what is missing, unless all that is required is set."""
        missing = [row for row in ROWS if row.required and not self.get(row)]
        if missing:
            raise NotConfiguredError(
                "thv-llm is not configured",
                why=f"not set: {', '.join(row.key for row in missing)}",
                next_step="thv-llm setup --gateway-url URL --issuer URL --client-id ID",
            )

    def get(self, row: Row) -> Value | None:
        """Return the value of one row."""
        value: Value | None = getattr(self.oidc if row.in_oidc else self, row.field)
        return value

    def with_value(self, row: Row, value: Value | None) -> Settings:
        """Return the settings with one row changed."""
        change: dict[str, Any] = {row.field: value}
        return self._replace(oidc=self.oidc._replace(**change)) if row.in_oidc else self._replace(**change)


class Row(NamedTuple):
    """One setting.

    Attributes:
        key: its dotted key in `llm.toml`, which is also its name in messages and in JSON.
        field: its attribute in `Settings`, or in `OidcSettings` for keys below `oidc`.
        flag: its long option, which a switch takes in the form `--no-…`, too.
        metavar: what stands for the value in the help; empty for a switch.
        check: tidies a value of the right type or raises ValueError with what is wanted.
        required: there is no default, `setup` has to be told.
    """

    key: str
    field: str
    flag: str
    metavar: str
    help: str
    check: Callable[[Value], Value] = validation.anything
    required: bool = False

    @property
    def in_oidc(self) -> bool:
        """Whether the field is one of `OidcSettings`."""
        return self.key.startswith("oidc.")

    @property
    def default(self) -> Value | None:
        """The value when the file does not name the key; None where absence means more."""
        return Settings().get(self)

    @property
    def type(self) -> type:
        """`str`, `int`, `bool` or `tuple` (a list of strings)."""
        return str if self.default is None else type(self.default)


ROWS: tuple[Row, ...] = (
    Row(
        "gateway_url",
        "gateway_url",
        "--gateway-url",
        "URL",
        "the LLM gateway, https",
        validation.gateway_url,
        required=True,
    ),
    Row(
        "oidc.issuer",
        "issuer",
        "--issuer",
        "URL",
        "the OIDC issuer, exactly as its metadata names it",
        validation.issuer,
        required=True,
    ),
    Row(
        "oidc.client_id",
        "client_id",
        "--client-id",
        "ID",
        "our id at the provider, a public client",
        validation.word,
        required=True,
    ),
    Row("oidc.scopes", "scopes", "--scopes", "LIST", "scopes to ask for", validation.scopes),
    Row(
        "oidc.audience",
        "audience",
        "--audience",
        "NAME",
        "`audience` parameter, for Auth0 and alike",
        validation.word,
    ),
    Row(
        "oidc.resource",
        "resource",
        "--resource",
        "URI",
        "`resource` parameter (RFC 8707)",
        validation.resource,
    ),
    Row(
        "oidc.prompt",
        "prompt",
        "--prompt",
        "VALUE",
        "`prompt` parameter of the login, such as select_account",
        validation.word,
    ),
    Row(
        "oidc.callback_port",
        "callback_port",
        "--callback-port",
        "PORT",
        "fixed port for the login's redirect; 0 takes any free one",
        validation.port_or_any,
    ),
    Row(
        "oidc.redirect_host",
        "redirect_host",
        "--redirect-host",
        "HOST",
        "host in the login's redirect: 127.0.0.1 or localhost",
        validation.one_of("127.0.0.1", "localhost"),
    ),
    Row("proxy.listen_port", "proxy_port", "--proxy-port", "PORT", "port of the proxy", validation.port),
    Row("proxy.require_key", "require_key", "--require-key", "", "the proxy asks tools for the local key"),
    Row(
        "ca_file",
        "ca_file",
        "--ca-file",
        "FILE",
        "more certificate authorities to trust, PEM",
        validation.ca_file,
    ),
    Row(
        "tls_skip_verify",
        "tls_skip_verify",
        "--tls-skip-verify",
        "",
        "accept any certificate of the gateway (never of the provider)",
    ),
    Row(
        "anthropic_path_prefix",
        "anthropic_path_prefix",
        "--anthropic-path-prefix",
        "PATH",
        'where the gateway serves Anthropic\'s API, "" for its root; not set: setup finds out',
        validation.path_prefix,
    ),
    Row("models", "models", "--models", "A,B", "model ids to offer; else the gateway's", validation.words),
    Row(
        "token_store",
        "token_store",
        "--token-store",
        "WHERE",
        "where the session lives, keyring or file; not set: the best there is",
        validation.one_of("keyring", "file"),
    ),
    Row(
        "bedrock.compat",
        "bedrock_compat",
        "--bedrock-compat",
        "",
        "the gateway passes to Bedrock: its model ids for Claude Code",
    ),
    Row("bedrock.enable_1m", "bedrock_enable_1m", "--enable-1m", "", "ask for the 1M context models"),
)


def checked(row: Row, value: object) -> Value:
    """Return a value as the setting takes it; an empty one stands for the default, if there is one.

    Raises:
        UsageError: names the key, the bad value and what is wanted.
    """
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)
    try:
        if not isinstance(value, (str, int, tuple)) or type(value) is not row.type:
            raise ValueError(TYPE_NAMES[row.type])
        if value in ("", ()) and not row.required and row.default is not None:
            return row.default
        return row.check(value)
    except ValueError as wanted:
        raise UsageError(
            f"{row.key} = {_without_user_info(value)} cannot be used",
            why=f"it must be {wanted}",
            next_step=f"give another value with {row.flag}",
        ) from None


def load(path: str, *, leaving_out: Collection[str] = ()) -> Settings:
    """Read the settings; a missing file means all defaults.

    Args:
        leaving_out: keys that are not even checked, because they are about to be replaced.

    Raises:
        ThvLlmError: not TOML (names line and column), a key we do not know, or a bad value.
    """
    return _understood(path, files.read(path), leaving_out)


def _understood(path: str, data: bytes | None, leaving_out: Collection[str]) -> Settings:
    if data is None:
        return Settings()
    values = _flat(_parse(path, data))
    by_key = {row.key: row for row in ROWS}
    settings = Settings()
    for key, value in values.items():
        if key not in by_key:
            raise _broken(path, f"{shown(key)} is not a setting{_close_to(key, by_key)}")
        if key in leaving_out:
            continue
        try:
            settings = settings.with_value(by_key[key], checked(by_key[key], value))
        except UsageError as error:
            remedy = f"thv-llm config set {by_key[key].flag} …, or mend it in {path}"
            raise ThvLlmError(error.what, why=error.why, next_step=remedy) from None
    return settings


def overlaid(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Return the settings with these values (by key) laid over them, each checked; None is the default."""
    for row in ROWS:
        if row.key in changes:
            value = changes[row.key]
            settings = settings.with_value(row, row.default if value is None else checked(row, value))
    return settings


def save(where: Paths, changes: Mapping[str, object]) -> Settings:
    """Write these values (by key) into the settings file and return the settings then in effect.

    A value that equals the default takes its key out of the file. Comments survive.

    Raises:
        FileChangedError: somebody else wrote the file at this moment.
        ThvLlmError: as `load`.
    """
    from thv_llm.edit import toml

    path = where.settings
    with files.lock(where.lock("settings"), timeout_s=LOCK_TIMEOUT_S, what="the settings file"):
        before = files.read(path)
        settings = overlaid(_understood(path, before, leaving_out=changes), changes)
        text = NEW_FILE if before is None else before.decode()
        values = {row.key: settings.get(row) for row in ROWS if row.key in changes}
        defaults = {row.key: row.default for row in ROWS}
        text = toml.remove(text, [key for key in values if values[key] == defaults[key]])
        text, _ = toml.apply(text, {k: _toml(v) for k, v in values.items() if v != defaults[k]})
        files.replace(path, text.encode(), expected=before)
    return settings


def _toml(value: Value | None) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _without_user_info(value: object) -> str:
    if isinstance(value, str) and "@" in value:  # a URL with a password in it, perhaps
        value = "…@" + value.rsplit("@", 1)[1]
    return shown(value)


def _parse(path: str, data: bytes) -> dict[str, object]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise _broken(path, f"not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, f"not TOML: {error}") from None
    except RecursionError:
        raise _broken(path, "nested too deeply for a settings file") from None


def _broken(path: str, why: str) -> ThvLlmError:
    return ThvLlmError(
        f"cannot use the settings file {path}",
        why=why,
        next_step="mend that line, or move the file away and run thv-llm setup",
    )


def _flat(document: Mapping[str, object], above: str = "") -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            values.update(_flat(value, f"{above}{key}."))
        else:
            values[f"{above}{key}"] = value
    return values


def _close_to(key: str, known: Collection[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
