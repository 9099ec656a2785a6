"""Where the settings of a run come from, and what none of these places can do."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import homes
from tests.commands.homes import Home
from tests.commands.machine import Machine
from tests.fakes.web import CA_FILE, Request, ServerResponse, WebServer
from thv_llm import policy, settings
from thv_llm.errors import ExitCode
from thv_llm.policy import Policy

TEAM = (
    'gateway_url = "https://llm.team.example"\n[oidc]\nissuer = "https://id.example.com"\nclient_id = "c"\n'
)
EVIL = "https://evil.example"


class Site:
    """A web server with one document, which a test replaces."""

    def __init__(self) -> None:
        self.response = ServerResponse(200, TEAM.encode())
        self.requests: list[Request] = []

    def respond(self, request: Request) -> ServerResponse:
        self.requests.append(request)
        return self.response


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with WebServer(site.respond) as server:
        yield f"{server.url}/team.toml"


def hashed(url: str, data: bytes) -> str:
    return f"{url}#sha256={hashlib.sha256(data).hexdigest()}"


def setup(home: Home, *words: str) -> homes.Run:
    """Run setup where no tool is installed: it saves the settings, and that is all."""
    from thv_llm import cli
    from thv_llm.errors import ExitCode

    stdout, stderr = homes.Stream(), homes.Stream(is_terminal=home.is_terminal)
    line = ["setup", "--lazy", *words]
    code = cli.bounded(line, home.context(stdout, stderr))
    return homes.ran(line, ExitCode(code), stdout, stderr)


def value(home: Home, key: str) -> object:
    rows = {row.key: row for row in settings.ROWS}
    return settings.load(home.paths.settings).get(rows[key])


EXAMPLES = {str: "word", int: "15123", tuple: "a,b"}
SPECIAL = {
    "gateway_url": "https://llm.example.com",
    "oidc.issuer": "https://id.example.com",
    "oidc.resource": "urn:x",
    "oidc.redirect_host": "localhost",
    "oidc.extra_params": "a=b c",
    "gateway.token": "id_token",
    "gateway.idle_timeout": "60",
    "gateway.headers": "X-Team: a",
    "gateway.header_file": "stored",
    "oidc.client_secret": CA_FILE,
    "oidc.grant": "federated",
    "oidc.token_file": "/t",
    "oidc.assertion_file": "/a",
    "ca_file": CA_FILE,
    "anthropic_path_prefix": "/a",
    "openai_path_prefix": "/o",
    "gemini_path_prefix": "/g",
    "models_path": "/m",
    "token_store": "file",
    "service.network": "NO_PROXY=a",
    "login.on_demand": "browser",
}


@pytest.mark.parametrize("row", settings.ROWS, ids=lambda row: row.key)
def test_every_setting_has_a_variable_that_counts_like_its_flag(tmp_path: Path, row: settings.Row) -> None:
    name = f"THV_LLM_{row.key.upper().replace('.', '_')}"
    text = "false" if row.default is True else "true" if row.default is False else ""
    text = text or SPECIAL.get(row.key) or EXAMPLES[row.type]
    flag = [row.flag, text]
    if row.type is bool:
        flag = [row.flag if text == "true" else f"--no-{row.flag[2:]}"]
    for kind in ("variable", "flag"):
        (tmp_path / kind).mkdir()
    grant = [] if row.key == "oidc.grant" else ["--grant", "client-credentials"]  # whose secret stays a file
    by_variable = homes.make(tmp_path / "variable", **{name: text})
    by_flag = homes.make(tmp_path / "flag")

    other = ["--audience", "x"] if row.key == "oidc.prompt" else ["--prompt", "login"]
    by_variable.run("config", "set", *other, *grant)
    by_flag.run("config", "set", *other, *grant, *flag)

    assert value(by_variable, row.key) == value(by_flag, row.key)
    assert value(by_variable, row.key) != row.default


def test_a_flag_wins_over_the_environment_which_wins_over_from(tmp_path: Path) -> None:
    (tmp_path / "team.toml").write_text(TEAM + 'audience = "file"\nprompt = "file"\nresource = "urn:file"\n')
    home = homes.make(tmp_path, THV_LLM_OIDC_AUDIENCE="variable", THV_LLM_OIDC_PROMPT="variable")

    done = setup(home, "--from", str(tmp_path / "team.toml"), "--audience", "flag")

    assert done.code == 0, done.err
    assert value(home, "oidc.audience") == "flag"
    assert value(home, "oidc.prompt") == "variable"
    assert value(home, "oidc.resource") == "urn:file"


def test_no_other_command_reads_the_environment(tmp_path: Path) -> None:
    home = homes.make(tmp_path, THV_LLM_GATEWAY_URL=EVIL)
    home.configure()

    assert home.run("config", "get", "gateway_url").out == "https://llm.example.com\n"


def test_an_empty_variable_says_nothing_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    home = homes.make(tmp_path, THV_LLM_OIDC_AUDIENCE="", THV_LLM_GATEWAY_ULR=EVIL, THV_LLM_QQQ="x")
    home.configure(oidc__audience="kept")

    done = home.run("config", "set", "--prompt", "login")

    assert value(home, "oidc.audience") == "kept"
    assert "THV_LLM_GATEWAY_ULR is not a setting. Did you mean `THV_LLM_GATEWAY_URL`?" in done.err
    assert "THV_LLM_QQQ is not a setting.\n" in done.err
    assert "THV_LLM_OIDC_AUDIENCE is" not in done.err


def test_what_a_variable_holds_is_never_shown(tmp_path: Path) -> None:
    secret = "hunter-2-hunter-2"
    home = homes.make(tmp_path, THV_LLM_GATEWAY_TOKEN=secret)
    done = setup(home)
    assert done.code == ExitCode.USAGE
    assert "THV_LLM_GATEWAY_TOKEN" in done.err
    assert secret not in done.err

    home = homes.make(tmp_path, THV_LLM_OIDC_CLIENT_SECRET=secret)
    done = setup(home)
    assert done.code == ExitCode.USAGE
    assert "THV_LLM_OIDC_CLIENT_SECRET" in done.err
    assert secret not in done.err


@pytest.mark.parametrize("key", ["gateway_url", "oidc.issuer"])
@pytest.mark.parametrize("yes", [(), ("--yes",)])
@pytest.mark.parametrize("way", ["environment", "url"])
def test_what_was_not_typed_moves_neither_gateway_nor_issuer(
    tmp_path: Path, site: Site, url: str, key: str, yes: tuple[str, ...], way: str
) -> None:
    variables = {f"THV_LLM_{key.upper().replace('.', '_')}": EVIL} if way == "environment" else {}
    site.response = ServerResponse(200, f'{key} = "{EVIL}"\n'.encode())
    home = homes.make(tmp_path, **variables)
    home.configure(ca_file=CA_FILE)
    saved = Path(home.paths.settings).read_bytes()
    words = ["--from", url] if way == "url" else []

    done = setup(home, *words, *yes)

    assert done.code == ExitCode.USAGE
    assert "would change" in done.err
    assert EVIL in done.err
    assert Path(home.paths.settings).read_bytes() == saved


def test_config_set_takes_no_move_from_the_environment_either(tmp_path: Path) -> None:
    home = homes.make(tmp_path, THV_LLM_GATEWAY_URL=EVIL)
    home.configure()

    with pytest.raises(Exception, match="the gateway would change") as caught:
        home.run("config", "set", "--prompt", "login")

    assert f"thv-llm config set --gateway-url {EVIL}" in str(caught.value)


def test_a_stored_session_is_not_sent_to_a_first_gateway_of_the_environment(here: Machine) -> None:
    here.setup()
    Path(here.paths.settings).unlink()
    here.environ |= {"THV_LLM_GATEWAY_URL": EVIL, "THV_LLM_OIDC_ISSUER": here.provider.issuer}
    here.environ |= {"THV_LLM_OIDC_CLIENT_ID": "thv-llm"}

    done = here.run("setup", "--yes", "--no-service", "--ca-file", str(here.provider.ca_file))

    assert done.code == ExitCode.USAGE
    assert "would change" in done.err
    assert not Path(here.paths.settings).exists()


def test_at_a_terminal_a_move_needs_a_yes_in_so_many_words(here: Machine) -> None:
    here.setup("--lazy")
    here.environ["THV_LLM_GATEWAY_URL"] = EVIL

    for answer in ("\n", "n\n", ""):
        done = here.run("config", "set", "--prompt", "x", is_terminal=True, stdin=answer)
        assert done.code == ExitCode.FAILED
        assert (
            "THV_LLM_GATEWAY_URL sets the gateway to https://evil.example, now https://127.0.0.1" in done.err
        )
        assert settings.load(here.paths.settings).gateway_url == here.gateway.url
    assert here.run("config", "set", "--prompt", "x", is_terminal=True, stdin="y\n").code == 0
    assert settings.load(here.paths.settings).gateway_url == EVIL


def test_the_same_origin_a_typed_hash_a_file_and_a_flag_are_no_such_move(
    tmp_path: Path, site: Site, url: str
) -> None:
    home = homes.make(tmp_path, THV_LLM_GATEWAY_URL="https://LLM.example.com:443/team")
    home.configure(ca_file=CA_FILE)
    assert setup(home, "--yes").code == 0

    home = homes.make(tmp_path)
    assert setup(home, "--yes", "--from", hashed(url, TEAM.encode())).code == 0
    assert value(home, "gateway_url") == "https://llm.team.example"
    (tmp_path / "team.toml").write_text(f'gateway_url = "{EVIL}"')
    assert setup(home, "--yes", "--from", str(tmp_path / "team.toml")).code == 0
    assert value(home, "gateway_url") == EVIL
    home = homes.make(tmp_path, THV_LLM_GATEWAY_URL=EVIL)
    assert setup(home, "--yes", "--gateway-url", "https://typed.example").code == 0
    assert value(home, "gateway_url") == "https://typed.example"


def test_a_dry_run_puts_no_question_and_changes_nothing(tmp_path: Path) -> None:
    home = homes.make(tmp_path, THV_LLM_GATEWAY_URL=EVIL)
    home.configure()

    assert setup(home, "--dry-run").code == 0
    assert value(home, "gateway_url") == "https://llm.example.com"


def test_the_first_setup_takes_all_from_a_url_or_from_the_environment(
    tmp_path: Path, site: Site, url: str
) -> None:
    home = homes.make(tmp_path, SSL_CERT_FILE=CA_FILE)
    done = setup(home, "--yes", "--from", f"{url}?key=secret")
    assert done.code == 0, done.err
    assert value(home, "gateway_url") == "https://llm.team.example"
    assert site.requests[0].query == {"key": "secret"}
    assert "authorization" not in {name.lower() for name in site.requests[0].headers}


@pytest.mark.parametrize(
    ("line", "needs_hash"),
    [
        ("tls_skip_verify = true", False),
        ("[proxy]\nrequire_key = false", False),
        (f'ca_file = "{CA_FILE}"', True),
        ('ca_pem = "x"', True),
        ('[oidc]\nclient_secret = "/etc/passwd"', True),
        ('[oidc]\ntoken_file = "/etc/passwd"', True),
        ('[oidc]\nassertion_file = "/etc/passwd"', True),
        ('[oidc]\nassertion_env = "AWS_SECRET"', True),
    ],
)
def test_a_url_switches_no_check_off_and_names_no_file_without_its_hash(
    tmp_path: Path, site: Site, url: str, line: str, needs_hash: bool
) -> None:
    home = homes.make(tmp_path, SSL_CERT_FILE=CA_FILE)
    site.response = ServerResponse(200, line.encode())
    key = line.replace("]\n", ".").strip("[").partition(" =")[0]

    done = setup(home, "--from", url)

    assert done.code == ExitCode.USAGE
    assert f"cannot set {key}" in done.err
    assert not Path(home.paths.settings).exists()
    with_hash = setup(home, "--from", hashed(url, line.encode()))
    assert (f"cannot set {key}" in with_hash.err) is not needs_hash


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (
            ServerResponse(302, b"", {"Location": "https://evil.example/?token=t"}),
            "HTTP 302, a redirect, which is not",
        ),
        (ServerResponse(404, b""), "HTTP 404"),
        (ServerResponse(200, b"#" * 70_000), "larger than 64 KiB"),
        (ServerResponse(200, b"<html>"), "not TOML"),
        (ServerResponse(200, b'gateway = "x"'), "'gateway' is not a setting. Did you mean"),
        (ServerResponse(200, b'gateway_url = "http://x"'), "gateway_url from https://127.0.0.1"),
        (ServerResponse(200, b"\xff"), "not UTF-8"),
    ],
)
def test_a_document_that_cannot_be_used_is_named_without_its_query(
    tmp_path: Path, site: Site, url: str, response: ServerResponse, why: str
) -> None:
    home = homes.make(tmp_path, SSL_CERT_FILE=CA_FILE)
    site.response = response

    done = setup(home, "--from", f"{url}?key=canary-of-query")

    assert done.code in (ExitCode.USAGE, ExitCode.FAILED, ExitCode.UNREACHABLE)
    assert why in done.err
    assert url in done.err
    assert "canary-of-query" not in done.err
    assert "evil.example" not in done.err
    assert not Path(home.paths.settings).exists()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("http://127.0.0.1:1/team.toml", "it is not an https URL"),
        ("file:///etc/passwd", "it is not an https URL"),
        ("https://user:pass@x/t", "user info"),
        ("https://127.0.0.1:1/t#sha256=abc", "64 hexadecimal digits"),
        ("https://127.0.0.1:1/t#md5=abc", "64 hexadecimal digits"),
        ("/none/team.toml", "there is no such file"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_its_reason(
    tmp_path: Path, source: str, why: str
) -> None:
    done = setup(homes.make(tmp_path), "--from", source)

    assert done.code == ExitCode.USAGE
    assert why in done.err
    assert "pass@" not in done.err


def test_another_content_than_the_hash_says_is_not_used(tmp_path: Path, url: str) -> None:
    home = homes.make(tmp_path, SSL_CERT_FILE=CA_FILE)

    done = setup(home, "--from", hashed(url, b"something else"))

    assert done.code == ExitCode.USAGE
    assert hashlib.sha256(TEAM.encode()).hexdigest() in done.err
    assert not Path(home.paths.settings).exists()


def test_the_certificate_authorities_of_a_pinned_document_are_used_for_the_login(here: Machine) -> None:
    pem = Path(here.provider.ca_file).read_text()
    text = f'gateway_url = "{here.gateway.url}"\nca_pem = """\n{pem}"""\n[oidc]\n'
    text += f'issuer = "{here.provider.issuer}"\nclient_id = "thv-llm"\n'
    (here.home / "team.toml").write_text(text)
    source = hashed(str(here.home / "team.toml"), text.encode())

    assert here.run("setup", "--dry-run", "--from", source).code == 0
    assert not Path(here.paths.ca).exists()
    done = here.run("setup", "--no-service", "--from", source)

    assert done.code == 0, done.err
    assert "Logged in" in done.err
    assert Path(here.paths.ca).read_text() == pem
    assert settings.load(here.paths.settings).ca_file == here.paths.ca
    assert here.run("uninstall", "--yes").code == 0
    assert not Path(here.paths.directory).exists()


def test_a_locked_key_is_locked_for_the_environment_and_for_from_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = Policy("/etc/toolhive/llm.toml", {"oidc.audience": "team"}, ("oidc.audience",))
    monkeypatch.setattr(policy, "load", lambda: decided)
    (tmp_path / "team.toml").write_text('[oidc]\naudience = "mine"\n')

    for home, words in (
        (homes.make(tmp_path, THV_LLM_OIDC_AUDIENCE="mine"), []),
        (homes.make(tmp_path), ["--from", str(tmp_path / "team.toml")]),
        (homes.make(tmp_path), ["--audience", "mine"]),
    ):
        done = setup(home, *words)
        assert done.code == ExitCode.USAGE
        assert "locked by /etc/toolhive/llm.toml" in done.err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_file_as_powershell_and_editors_on_windows_write_it_is_understood(
    tmp_path: Path, encoding: str
) -> None:
    home = homes.make(tmp_path)
    data = TEAM.replace("\n", "\r\n").encode(encoding)
    (tmp_path / "team.toml").write_bytes(data)

    done = setup(home, "--from", str(tmp_path / "team.toml"))

    if encoding == "utf-16-le":  # without a mark it could be anything
        assert done.code != 0
        assert "team.toml" in done.err
    else:
        assert done.code == 0, done.err
        assert settings.load(home.paths.settings).oidc.issuer


def test_what_is_no_file_for_from_is_named_with_what_to_give(tmp_path: Path) -> None:
    done = setup(homes.make(tmp_path), "--from", str(tmp_path))

    assert done.code == ExitCode.USAGE
    assert "it is not a regular file\n  next: thv-llm setup" in done.err
    assert "--from FILE|URL" in done.err


def test_what_is_locked_is_not_said_to_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = Policy("/etc/toolhive/llm.toml", {"oidc.audience": "team"}, ("oidc.audience",))
    monkeypatch.setattr(policy, "load", lambda: decided)
    home = homes.make(tmp_path)
    home.paths_ready()

    alone = home.run("config", "set", "--audience", "team").err
    both = home.run("config", "set", "--audience", "team", "--models", "m-1").err

    not_saved = "Not saved: oidc.audience. /etc/toolhive/llm.toml has locked the same value.\n"
    assert alone == not_saved
    assert both == f"Saved models in {home.paths.settings}.\n{not_saved}"


def test_what_is_exported_sets_up_another_machine_alike(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = homes.make(tmp_path / "one"), homes.make(tmp_path / "two")
    one.configure(
        models=("a", "b"),
        proxy__listen_port=15000,
        oidc__audience='q"uo\\te',
        ca_file=CA_FILE,
        token_store="file",
        tls_skip_verify=True,
        service__network=("NO_PROXY=x",),
        oidc__token_file=str(tmp_path / "one" / "token"),
    )

    shown = one.run("config", "show", "--export")
    (tmp_path / "team.toml").write_text(shown.out)
    done = setup(two, "--from", str(tmp_path / "team.toml"))

    assert done.code == 0, done.err
    for key in (
        "gateway_url",
        "oidc.issuer",
        "oidc.client_id",
        "models",
        "proxy.listen_port",
        "oidc.audience",
    ):
        assert value(two, key) == value(one, key)
    assert Path(two.paths.ca).read_text() == Path(CA_FILE).read_text()
    for key in ("token_store", "tls_skip_verify", "service.network", "oidc.token_file"):
        assert value(two, key) != value(one, key)
        assert key in shown.err


def test_only_certificates_are_exported_of_a_file_that_holds_a_private_key_too(tmp_path: Path) -> None:
    home = homes.make(tmp_path)
    both = tmp_path / "both.pem"
    key = "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5LW9mLXRoaXMtdGVzdA==\n-----END PRIVATE KEY-----\n"
    both.write_text(f"{key}# of the company\n{Path(CA_FILE).read_text()}{key}")
    home.configure(ca_file=str(both))

    shown = home.run("config", "show", "--export")

    assert "PRIVATE" not in shown.out
    assert "Y2FuYXJ5" not in shown.out
    assert tomllib.loads(shown.out)["ca_pem"].strip() == Path(CA_FILE).read_text().strip()


def test_show_says_of_each_value_where_it_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = Policy(
        "/b", {"oidc.audience": "x", "oidc.prompt": "y"}, ("oidc.prompt",), {}, {"oidc.audience": "/a"}
    )
    monkeypatch.setattr(policy, "load", lambda: decided)
    home = homes.make(tmp_path)
    home.configure()

    lines = {line.split()[0]: line for line in home.run("config", "show").out.splitlines()}

    assert lines["gateway_url"].endswith(f"({home.paths.settings})")
    assert lines["oidc.audience"].endswith("(/a)")
    assert lines["oidc.prompt"].endswith("(/b, locked)")
    assert lines["models"].endswith("(default)")


def test_variables_of_other_uses_are_no_settings() -> None:
    assert not set(settings.OTHER_VARIABLES) & set(settings.VARIABLES)
