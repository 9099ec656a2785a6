"""`llm.toml`: the connection settings.

`ROWS` is the one place that knows a setting: its key in the file, its flag, its check, its
default and its help. `config show`, the flags of `setup` and `config set`, and the README's
table are made from it. A user can edit the file: comments and order survive `save`.

From low to high: the default, the administrator's value (`policy`), `llm.toml`, the command line. A
key that the administrator has locked has his value whatever the others say.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from thv_llm import files, policy, validation
from thv_llm.errors import NotConfiguredError, ThvLlmError, UsageError, did_you_mean, shown
from thv_llm.policy import Policy
from thv_llm.validation import SettingValue

if TYPE_CHECKING:
    from thv_llm.paths import Paths

LOCK_TIMEOUT_S = 10.0
MAX_LINE = 96
"""Characters of a line of a command that has several."""
FIX = "fix that line, or move the file away and run thv-llm setup"
NEW_FILE = "# Settings of thv-llm; `thv-llm config show` prints all of them with their defaults.\n"
SET_UP = "thv-llm setup URL (the gateway's), or thv-llm setup --gateway-url URL --issuer URL --client-id ID"
STORED = "stored"
"""In place of a file with a secret: the session's store has it."""
ID_FIELDS_OF_0_1_0 = ("issuer", "client_id", "scopes", "audience", "resource")
OF_GATEWAY = (
    "anthropic_path_prefix",
    "openai_path_prefix",
    "gemini_path_prefix",
    "models_path",
    "gateway.headers",
    "gateway.header_file",
)
"""What belongs to one gateway, and is no business of another one."""
TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false", tuple: "a list of strings"}


class OidcSettings(NamedTuple):
    """What an OIDC public client must know about its provider."""

    issuer: str = ""
    client_id: str = ""
    scopes: tuple[str, ...] = ("openid", "offline_access")
    audience: str = ""
    resource: str = ""
    prompt: str = ""
    callback_port: int = 0
    redirect_host: str = "127.0.0.1"
    extra_params: tuple[str, ...] = ()
    gateway_token: str = "access_token"
    client_secret: str = ""
    grant: str = "user"
    token_file: str = ""
    assertion_file: str = ""
    assertion_env: str = ""
    exchange: bool = False

    @property
    def parameters(self) -> dict[str, str]:
        """What each request to the provider holds: the rows with a `parameter` that have a value."""
        values = {row.parameter: getattr(self, row.field) for row in ROWS if row.parameter}
        return {name: value for name, value in values.items() if value}

    @property
    def extra_parameters(self) -> dict[str, str]:
        """What a request for a login holds besides."""
        return dict(piece.split("=", 1) for piece in self.extra_params)


class Settings(NamedTuple):
    """Every setting in effect, defaults included. `ROWS` says what each field means."""

    gateway_url: str = ""
    tls_skip_verify: bool = False
    ca_file: str = ""
    anthropic_path_prefix: str | None = None
    openai_path_prefix: str | None = None
    gemini_path_prefix: str | None = None
    models_path: str = ""
    models: tuple[str, ...] = ()
    gateway_timeout_s: int = 600
    gateway_headers: tuple[str, ...] = ()
    gateway_header_file: str = ""
    token_store: str = ""
    proxy_port: int = 14000
    require_key: bool = True
    bedrock_compat: bool = False
    bedrock_enable_1m: bool = False
    autostart: bool = True
    network: tuple[str, ...] = ()
    login_on_demand: str = "notify"
    oidc: OidcSettings = OidcSettings()

    def require_configured(self) -> None:
        """Raise NotConfiguredError, naming what is missing, unless all that is required is set."""
        if missing := self.missing():
            raise NotConfiguredError(
                "thv-llm is not configured",
                why=f"not set: {', '.join(missing)}",
                next_step=SET_UP,
            )

    def missing(self) -> list[str]:
        """Return the keys of what is required and not set; the identity decides what is."""
        oidc = self.oidc
        asks_provider = oidc.grant != "token-file"
        missing = [
            row.key
            for row in ROWS
            if row.required and not self.get(row) and (asks_provider or not row.in_oidc)
        ]
        if oidc.grant == "token-file" and not oidc.token_file:
            missing.append("oidc.token_file")
        if oidc.grant == "federated" and not (oidc.assertion_file or oidc.assertion_env):
            missing.append("oidc.assertion_file or oidc.assertion_env")
        if oidc.grant == "client-credentials" and not oidc.client_secret:
            missing.append("oidc.client_secret")
        return missing

    @property
    def headers(self) -> dict[str, str]:
        """The headers of `gateway.headers`, by name."""
        return dict(piece.split(": ", 1) for piece in self.gateway_headers)

    @property
    def session_id(self) -> str:
        """The name of this session in its store: readable, and another one for other tokens.

        A row that distinguishes sessions is in it by that alone. The rows of 0.1.0 are always there,
        in their old order, the others only with a value that is not the default: so the ids that
        0.1.0 has stored stay valid.
        """
        import hashlib
        import json

        parts: list[Any] = [_unordered(getattr(self.oidc, field)) for field in ID_FIELDS_OF_0_1_0]
        later = {
            row.key: _unordered(self.get(row))
            for row in ROWS
            if row.distinguishes and row.field not in ID_FIELDS_OF_0_1_0 and self.get(row) != row.default
        }
        digest = hashlib.sha256(json.dumps([*parts, later] if later else parts, sort_keys=True).encode())
        return f"{self.oidc.client_id} {self.oidc.issuer} {digest.hexdigest()[:16]}"

    def get(self, row: Row) -> SettingValue | None:
        """Return the value of one row."""
        value: SettingValue | None = getattr(self.oidc if row.in_oidc else self, row.field)
        return value

    def with_value(self, row: Row, value: SettingValue | None) -> Settings:
        """Return the settings with one row changed."""
        change: dict[str, Any] = {row.field: value}
        return self._replace(oidc=self.oidc._replace(**change)) if row.in_oidc else self._replace(**change)


class Row(NamedTuple):
    """One setting.

    Attributes:
        key: its dotted key in `llm.toml`, which is also its name in messages and in JSON.
        option: its long flag and what stands for the value in the help; a switch has only the flag, and
            takes it in the form `--no-…`, too.
        check: tidies a value of the right type or raises ValueError with what is wanted.
        required: there is no default, `setup` must be told.
        parameter: the OAuth parameter that carries the value in each request to the provider.
        is_identity: with another value it is another session, though the value is no parameter.
        splits: the value of a list's flag is split at commas and blanks.
        attribute: its field, where that is not the key without `oidc.` and dots.
    """

    key: str
    option: str
    help: str
    check: Callable[[SettingValue], SettingValue] = validation.anything
    required: bool = False
    parameter: str = ""
    is_identity: bool = False
    splits: bool = True
    attribute: str = ""

    @property
    def field(self) -> str:
        """The attribute of `Settings`, or of `OidcSettings`, that holds the value."""
        return self.attribute or self.key.removeprefix("oidc.").replace(".", "_")

    @property
    def flag(self) -> str:
        """The long flag."""
        return self.option.partition(" ")[0]

    @property
    def metavar(self) -> str:
        """What stands for the value in the help; empty for a switch."""
        return self.option.partition(" ")[2]

    @property
    def distinguishes(self) -> bool:
        """Whether tokens got with another value belong to another session."""
        return self.is_identity or bool(self.parameter)

    @property
    def in_oidc(self) -> bool:
        """Whether the field is one of `OidcSettings`."""
        return self.field in OidcSettings._fields

    @property
    def default(self) -> SettingValue | None:
        """The value when the file does not name the key; None where absence means more."""
        return Settings().get(self)

    @property
    def has_default(self) -> bool:
        """Whether an empty value stands for the default."""
        return not self.required and self.default is not None

    @property
    def type(self) -> type:
        """`str`, `int`, `bool` or `tuple` (a list of strings)."""
        return str if self.default is None else type(self.default)


ROWS: tuple[Row, ...] = (
    Row("gateway_url", "--gateway-url URL", "the LLM gateway, https", validation.gateway_url, required=True),
    Row(
        "oidc.issuer",
        "--issuer URL",
        "the OIDC issuer, exactly as its metadata names it",
        validation.issuer,
        required=True,
        is_identity=True,
    ),
    Row(
        "oidc.client_id",
        "--client-id ID",
        "our id at the provider, a public client",
        validation.word,
        required=True,
        parameter="client_id",
    ),
    Row("oidc.scopes", "--scopes LIST", "scopes to request", validation.words, is_identity=True),
    Row(
        "oidc.audience",
        "--audience NAME",
        "`audience` parameter, for Auth0 and similar providers",
        validation.word,
        parameter="audience",
    ),
    Row(
        "oidc.resource",
        "--resource URI",
        "`resource` parameter (RFC 8707)",
        validation.resource,
        parameter="resource",
    ),
    Row(
        "oidc.prompt",
        "--prompt VALUE",
        "`prompt` parameter of the login, such as select_account",
        validation.word,
    ),
    Row(
        "oidc.callback_port",
        "--callback-port PORT",
        "fixed port for the login's redirect; 0 takes any free one",
        validation.port_or_any,
    ),
    Row(
        "oidc.redirect_host",
        "--redirect-host HOST",
        "host in the login's redirect: 127.0.0.1 or localhost",
        validation.OneOf("127.0.0.1", "localhost"),
    ),
    Row(
        "oidc.extra_params",
        "--auth-param NAME=VALUE",
        "another parameter of the login, such as access_type=offline; repeatable",
        validation.auth_params,
        is_identity=True,
        splits=False,
    ),
    Row(
        "gateway.token",
        "--gateway-token KIND",
        "what the gateway accepts: access_token or id_token",
        validation.OneOf("access_token", "id_token"),
        is_identity=True,
    ),
    Row(
        "gateway.idle_timeout",
        "--gateway-timeout SECONDS",
        "how long the gateway can send nothing, before a response and within it",
        validation.seconds,
        attribute="gateway_timeout_s",
    ),
    Row(
        "gateway.headers",
        "--gateway-header LINE",
        'a header for each request to the gateway, as "Name: value"; repeatable',
        validation.headers,
        splits=False,
    ),
    Row(
        "gateway.header_file",
        "--gateway-header-file FILE",
        "file with secret ones, one a line; setup moves them into the session's store; proxy only",
        validation.file_or_stored,
    ),
    Row(
        "oidc.client_secret",
        "--client-secret-file FILE",
        "file with the secret of a client that has one; setup moves a user's into the session's store",
        validation.file_or_stored,
    ),
    Row(
        "oidc.grant",
        "--grant KIND",
        "whose tokens: user, or without one token-file, federated, client-credentials",
        validation.OneOf("user", "token-file", "federated", "client-credentials"),
        is_identity=True,
    ),
    Row(
        "oidc.token_file",
        "--token-file FILE",
        "grant token-file: the file with the token, read at each use",
        validation.absolute,
        is_identity=True,
    ),
    Row(
        "oidc.assertion_file",
        "--assertion-file FILE",
        "grant federated: the file with the workload's own token",
        validation.absolute,
        is_identity=True,
    ),
    Row(
        "oidc.assertion_env",
        "--assertion-env NAME",
        "grant federated: the variable with that token; github[:AUDIENCE] asks GitHub Actions for it",
        validation.word,
        is_identity=True,
    ),
    Row(
        "oidc.exchange",
        "--exchange",
        "grant federated: by token exchange (RFC 8693) instead of as client assertion",
        is_identity=True,
    ),
    Row(
        "proxy.listen_port", "--proxy-port PORT", "port of the proxy", validation.port, attribute="proxy_port"
    ),
    Row(
        "proxy.require_key",
        "--require-key",
        "the proxy requires the local key",
        attribute="require_key",
    ),
    Row("ca_file", "--ca-file FILE", "more certificate authorities to trust, PEM", validation.ca_file),
    Row(
        "tls_skip_verify",
        "--tls-skip-verify",
        "accept any certificate of the gateway (never of the provider)",
    ),
    Row(
        "anthropic_path_prefix",
        "--anthropic-path-prefix PATH",
        'where the gateway serves Anthropic\'s API, "" for its root; not set: setup finds out',
        validation.path_prefix,
    ),
    Row(
        "openai_path_prefix", "--openai-path-prefix PATH", "the same for OpenAI's API", validation.path_prefix
    ),
    Row(
        "gemini_path_prefix", "--gemini-path-prefix PATH", "the same for Gemini's API", validation.path_prefix
    ),
    Row(
        "models_path",
        "--models-path PATH",
        "where the gateway lists its models; not set: /v1/models below OpenAI's API",
        validation.path,
    ),
    Row("models", "--models A,B", "model ids to offer; else the gateway's", validation.words),
    Row(
        "token_store",
        "--token-store WHERE",
        "where the session lives, keyring or file; not set: the best there is",
        validation.OneOf("keyring", "file"),
    ),
    Row("bedrock.compat", "--bedrock-compat", "the gateway passes to Bedrock: its model ids for Claude Code"),
    Row("bedrock.enable_1m", "--enable-1m", "request the 1M context models"),
    Row(
        "login.on_demand",
        "--login-on-demand HOW",
        "when a tool needs a login: off, notify (on the desktop) or browser",
        validation.OneOf("off", "notify", "browser"),
    ),
    Row("service.autostart", "--autostart", "start the service at every login", attribute="autostart"),
    Row(
        "service.network",
        "--service-network A=B,…",
        "proxy and certificate variables of the service; setup saves those of its environment",
        validation.network,
        attribute="network",
    ),
)


BY_KEY = {row.key: row for row in ROWS}


def checked(row: Row, value: object, source: str = "") -> SettingValue:
    """Return a value as the setting takes it; an empty one stands for the default, if there is one.

    Args:
        source: the variable or document that the value is from, which can be a secret in the wrong place.

    Raises:
        UsageError: names the key, the bad value and what is wanted.
    """
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)
    try:
        if not isinstance(value, (str, int, tuple)) or type(value) is not row.type:
            raise ValueError(TYPE_NAMES[row.type])
        if value in ("", ()) and row.has_default:
            assert row.default is not None
            return row.default
        return row.check(value)
    except ValueError as wanted:
        what = f"{row.key} from {source}" if source else f"{row.key} = {_without_user_info(value)}"
        raise UsageError(
            f"{what} cannot be used",
            why=f"it must be {wanted}",
            next_step=f"correct it in {source}" if source else f"give another value with {row.flag}",
        ) from None


def load(path: str, *, leaving_out: Collection[str] = (), decided: Policy | None = None) -> Settings:
    """Read the settings in effect; a missing file means what the administrator decided, else all defaults.

    Args:
        leaving_out: keys that are not even checked, because they are about to be replaced.
        decided: in place of what the administrator of this machine decided.

    Raises:
        ThvLlmError: not TOML (names line and column), a key we do not know, or a bad value.
    """
    decided = policy.load() if decided is None else decided
    settings = _understood(path, files.read(path), leaving_out, decided)
    for row in ROWS:
        if row.key not in leaving_out and decided.forbids(row.key, str(settings.get(row))):
            what, why = _forbidden(row, settings, decided)
            is_theirs = row.key in decided.locked or settings.get(row) == decided.values.get(row.key)
            remedy = policy.NEXT_STEP if is_theirs else f"thv-llm setup {row.flag} {row.metavar}"
            raise ThvLlmError(what, why=why, next_step=remedy)
    return settings


def _forbidden(row: Row, settings: Settings, decided: Policy) -> tuple[str, str]:
    allowed = ", ".join(decided.allowed[row.key])
    why = f"{decided.path} allows only {allowed}"
    return f"{row.key} = {_without_user_info(settings.get(row))} is not allowed on this machine", why


def base(decided: Policy) -> Settings:
    """Return the settings as the administrator decided them, over the defaults.

    Raises:
        ThvLlmError: a key we do not know, or a bad value.
    """
    _require_known(decided.path, (*decided.values, *decided.locked), policy.NEXT_STEP)
    return _with_values(Settings(), decided.path, decided.values, policy.NEXT_STEP)


def _understood(path: str, data: bytes | None, leaving_out: Collection[str], decided: Policy) -> Settings:
    settings = base(decided)
    if data is None:
        return settings
    values = policy.members(path, data, FIX)
    _require_known(path, values, FIX)
    passed_over = (*leaving_out, *decided.locked)
    values = {key: value for key, value in values.items() if key not in passed_over}
    return _with_values(settings, path, values, "")


def _with_values(settings: Settings, path: str, values: Mapping[str, object], next_step: str) -> Settings:
    for row in ROWS:
        if row.key in values:
            try:
                settings = settings.with_value(row, checked(row, values[row.key]))
            except UsageError as error:
                remedy = f"thv-llm setup {row.flag} {row.metavar}".rstrip() + f", or fix it in {path}"
                why = f"{error.why} ({path})" if next_step else error.why
                raise ThvLlmError(error.what, why=why, next_step=next_step or remedy) from None
    return settings


def overlaid(settings: Settings, changes: Mapping[str, object], decided: Policy | None = None) -> Settings:
    """Return the settings with these values (by key) laid over them, each checked.

    None, and an empty value where there is a default, is the administrator's value, else the default.

    Args:
        decided: what the administrator decided; nothing, when it is None.

    Raises:
        UsageError: a bad value, or one that is not allowed on this machine.
    """
    decided = decided or Policy()
    below = base(decided)
    for row in ROWS:
        if row.key in changes and row.key not in decided.locked:
            value = changes[row.key]
            is_given = value is not None and not (value in ("", (), []) and row.has_default)
            settings = settings.with_value(row, checked(row, value) if is_given else below.get(row))
            if decided.forbids(row.key, str(settings.get(row))):
                what, why = _forbidden(row, settings, decided)
                raise UsageError(what, why=why, next_step=policy.NEXT_STEP)
    return settings


def require_unlocked(changes: Mapping[str, object], decided: Policy) -> None:
    """Raise UsageError, naming the file, when a change would differ from what is locked."""
    below = base(decided)
    locked = [row for row in ROWS if row.key in decided.locked and row.key in changes]
    if names := [row.key for row in locked if changes[row.key] != below.get(row)]:
        what = f"{', '.join(names)} cannot be changed on this machine"
        raise UsageError(what, why=f"locked by {decided.path}", next_step=policy.NEXT_STEP)


def sources(path: str, decided: Policy) -> dict[str, str]:
    """Return the file of each value in effect, by key; the defaults are left out."""
    data = files.read(path)
    saved = {} if data is None else policy.members(path, data, FIX)
    found = {}
    for row in ROWS:
        if row.key in saved and row.key not in decided.locked:
            found[row.key] = path
        elif row.key in decided.values:
            found[row.key] = decided.sources.get(row.key, decided.path)
    return found


def save(where: Paths, changes: Mapping[str, object]) -> Settings:
    """Write these values (by key) into the settings file and return the settings then in effect.

    A value that equals the administrator's, or else the default, takes its key out of the file: the
    next decision holds here, too. Comments survive. What is locked is not written.

    Raises:
        FileChangedError: another program wrote the file at this moment.
        ThvLlmError: as `load`.
    """
    from thv_llm.edit import toml

    path = where.settings
    with files.lock(where.lock("settings"), timeout_s=LOCK_TIMEOUT_S, what="the settings file"):
        before = files.read_settled(path)
        decided = policy.load()
        settings = overlaid(_understood(path, before, changes, decided), changes, decided)
        text = NEW_FILE if before is None else before.decode()
        written = [row for row in ROWS if row.key in changes and row.key not in decided.locked]
        values = {row.key: settings.get(row) for row in written}
        below = base(decided)
        defaults = {row.key: below.get(row) for row in ROWS}
        text = toml.EDITOR.remove(text, [key for key in values if values[key] == defaults[key]])
        text, _ = toml.EDITOR.apply(text, {k: _toml(v) for k, v in values.items() if v != defaults[k]})
        if text.encode() != before:  # where nothing changes, a file that cannot be written is no fault
            files.replace(path, text.encode(), expected=before, is_ours=True)
        else:
            files.remove_left_over(path)
    return settings


def _toml(value: SettingValue | None) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _unordered(value: SettingValue | None) -> Any:
    return sorted(value) if isinstance(value, tuple) else value


def _without_user_info(value: object) -> str:
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    if isinstance(value, str) and "@" in value:  # a URL with a password in it, perhaps
        value = "…@" + value.rsplit("@", 1)[1]
    return shown(value)


PREFIX = "THV_LLM_"
VARIABLES = {PREFIX + row.key.upper().replace(".", "_"): row for row in ROWS}
OTHER_VARIABLES = tuple(PREFIX + name for name in ("HOME", "SOCKET", "PASSPHRASE", "API_KEY", "TOKEN"))
"""Variables of ours that are no settings."""


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the name of each `THV_LLM_*` that means nothing, and which one is near."""
    plain = {name.removeprefix(PREFIX).lower(): name for name in (*VARIABLES, *OTHER_VARIABLES)}
    found = {}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in plain:
            near = did_you_mean(name.removeprefix(PREFIX), plain)  # what they have in common says nothing
            near = re.sub("`([a-z_]+)`", lambda match: f"`{plain[match[1]]}`", near)
            found[name] = f"{name} is not a setting. {near}".rstrip()
    return found


def no_setting(key: str) -> str:
    """Say that there is no such setting, and which one is near."""
    return f"{shown(key)} is not a setting. {did_you_mean(key, BY_KEY)}".strip()


def _require_known(path: str, keys: Iterable[str], next_step: str) -> None:
    for key in keys:
        if key not in BY_KEY:
            what = f"cannot use the settings file {path}"
            raise ThvLlmError(what, why=no_setting(key), next_step=next_step)


def options(command: str, values: Mapping[str, object]) -> str:
    """Return a command line with the flags of these settings, over several lines when it is long."""
    words = []
    for row in ROWS:
        if row.key in values:
            value = values[row.key]
            pieces = value if isinstance(value, tuple) else (str(value),)
            if row.splits:
                pieces = (" ".join(pieces),)
            words += [f"{row.flag} {_quoted(piece)}" for piece in pieces]
    lines = [command]
    for word in words:
        if len(lines[-1]) + len(word) > MAX_LINE:
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n".join(lines)


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word and not set(word) & set('"$`\\') else shlex.quote(word)
