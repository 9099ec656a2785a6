"""The settings file: what is read, refused, written and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import environs
from thv_llm import files, settings
from thv_llm.errors import NotConfiguredError, ThvLlmError, UsageError
from thv_llm.files import FileChangedError
from thv_llm.paths import Paths
from thv_llm.settings import ROWS, OidcSettings, Row, Settings

CONFIGURED = {
    "gateway_url": "https://llm.example.com",
    "oidc.issuer": "https://id.example.com",
    "oidc.client_id": "cli",
}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "toolhive" / "llm.toml")


def save(path: str, changes: dict[str, Any]) -> settings.Settings:
    return settings.save(Paths(str(Path(path).parent), "", ""), changes)


def written(path: str, text: str) -> str:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)
    return path


def test_a_missing_file_means_all_defaults(path: str) -> None:
    found = settings.load(path)

    assert found == settings.Settings()
    assert found.proxy_port == 14000
    assert found.oidc.scopes == ("openid", "offline_access")


def test_what_is_saved_is_loaded_and_defaults_stay_out_of_the_file(path: str) -> None:
    save(path, {**CONFIGURED, "proxy.listen_port": 14000, "models": ("a", "b")})

    found = settings.load(path)

    assert found.gateway_url == "https://llm.example.com"
    assert found.models == ("a", "b")
    assert "listen_port" not in Path(path).read_text()
    assert environs.is_private(path)
    assert environs.is_private(Path(path).parent)


def test_comments_survive_a_change(path: str) -> None:
    written(
        path,
        '# mine\ngateway_url = "https://a.example" # why\n\n[oidc] # the provider\nissuer = "https://i"\n',
    )

    save(path, {"gateway_url": "https://b.example", "oidc.client_id": "cli"})

    text = Path(path).read_text()
    assert '# mine\ngateway_url = "https://b.example" # why\n' in text
    assert "[oidc] # the provider" in text
    assert settings.load(path).oidc.client_id == "cli"


def test_a_value_set_back_to_its_default_leaves_the_file(path: str) -> None:
    save(path, {**CONFIGURED, "oidc.audience": "gw", "proxy.require_key": False})
    save(path, {"oidc.audience": "", "proxy.require_key": True})

    assert "audience" not in Path(path).read_text()
    assert "require_key" not in Path(path).read_text()


def test_an_empty_value_is_the_default_in_the_file_and_as_a_change(path: str) -> None:
    found = settings.load(
        written(path, 'models = []\n[oidc]\nscopes = []\nredirect_host = ""\naudience = ""\n')
    )
    assert found == settings.Settings()

    save(path, {"oidc.scopes": ("openid",), "oidc.redirect_host": "localhost"})
    assert save(path, {"oidc.scopes": (), "oidc.redirect_host": ""}) == settings.Settings()
    assert "scopes" not in Path(path).read_text()


def test_an_empty_path_prefix_is_the_root_which_is_no_default(path: str) -> None:
    save(path, {"anthropic_path_prefix": ""})

    assert settings.load(path).anthropic_path_prefix == ""


def test_what_a_killed_save_left_goes_with_the_next_one_though_it_changes_nothing(path: str) -> None:
    """It was killed between the swap of the two files and the removal of the old one."""
    save(path, {"models": ("m-1",)})
    left = Path(files.temporary_of(path))
    left.write_text("the old settings")

    save(path, {"models": ("m-1",)})

    assert not left.exists()


def test_what_an_editor_saves_at_this_moment_stays(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path, "# mine\n")
    overlaid = settings.overlaid

    def meanwhile(*arguments: Any) -> settings.Settings:
        written(path, "# theirs\n")
        return overlaid(*arguments)

    monkeypatch.setattr(settings, "overlaid", meanwhile)
    with pytest.raises(FileChangedError):
        save(path, CONFIGURED)

    assert Path(path).read_text() == "# theirs\n"


def test_a_file_that_is_not_toml_is_refused_with_line_and_column(path: str) -> None:
    written(path, 'gateway_url = "https://a.example"\nnot toml\n')

    with pytest.raises(ThvLlmError, match=r"line 2, column \d+") as caught:
        settings.load(path)

    assert path in str(caught.value)
    with pytest.raises(ThvLlmError):
        save(path, {"gateway_url": "https://b.example"})
    assert "not toml" in Path(path).read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('gatway_url = "x"', "Did you mean `gateway_url`?"),
        ('[proxy]\nlisten_port = "14000"', "must be an integer"),
        ("[proxy]\nlisten_port = 80", "1024 to 65535"),
        ("[proxy]\nrequire_key = 1", "must be true or false"),
        ('models = "a"', "must be a list of strings"),
        ("models = [1]", "must be a list of strings"),
        ('gateway_url = "http://a"', "https URL"),
        ("[oidc.issuer]\nx = 1", "is not a setting"),
        ("a = " + "[" * 3000, "nested too deeply"),
    ],
)
def test_a_bad_value_in_the_file_is_named_with_what_is_wanted(path: str, text: str, said: str) -> None:
    with pytest.raises(ThvLlmError, match=said):
        settings.load(written(path, text))


def test_a_bad_value_in_the_file_can_be_replaced_by_its_flag(path: str) -> None:
    written(path, '# kept\nca_file = "/gone.pem"\n')

    save(path, {"ca_file": ""})

    assert Path(path).read_text() == "# kept\n"


def test_a_bad_value_is_refused_before_anything_is_written(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        save(path, {**CONFIGURED, "gateway_url": "https://user:hunter2@a.example"})

    assert "hunter2" not in str(caught.value)
    assert "gateway_url" in str(caught.value)
    assert not Path(path).exists()


def test_what_is_missing_is_named(path: str) -> None:
    with pytest.raises(NotConfiguredError, match=r"oidc.issuer, oidc.client_id"):
        save(path, {"gateway_url": "https://a.example"}).require_configured()
    save(path, CONFIGURED).require_configured()


def test_every_row_names_a_field_and_every_field_has_a_row() -> None:
    fields = {*settings.Settings._fields, *settings.OidcSettings._fields} - {"oidc"}

    assert {row.field for row in settings.ROWS} == fields
    assert len({row.flag for row in settings.ROWS}) == len(settings.ROWS)


def other_value(row: Row) -> Any:
    if row.type is tuple:
        return ("other=1",)
    return {str: "other", int: 9, bool: not row.default}[row.type]


@pytest.mark.parametrize(
    ("oidc", "named"),
    [
        (OidcSettings("https://idp.example", "cli"), "cli https://idp.example 7a06a139bca62ac2"),
        (
            OidcSettings("https://idp.example", "cli", ("openid", "a"), "aud", "urn:r", "login", 9000),
            "cli https://idp.example 133f361dec047a2d",
        ),
        (
            OidcSettings("https://idp.example", "cli", ("a", "openid"), "aud", "urn:r"),
            "cli https://idp.example 133f361dec047a2d",
        ),
    ],
)
def test_the_ids_that_0_1_0_gave_to_sessions_stay_valid(oidc: OidcSettings, named: str) -> None:
    assert Settings(oidc=oidc).session_id == named


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_another_value_is_another_session_exactly_if_the_row_says_so(row: Row) -> None:
    before = Settings(oidc=OidcSettings("https://idp.example", "cli"))
    after = before.with_value(row, other_value(row))

    assert (after.session_id != before.session_id) == row.distinguishes


def test_values_of_two_rows_that_changed_places_are_two_sessions() -> None:
    rows = [row for row in ROWS if row.distinguishes and row.type is str]
    ids = [Settings().with_value(row, "x").session_id for row in rows]

    assert len(set(ids)) == len(rows)


@pytest.mark.parametrize("row", [row for row in ROWS if row.parameter], ids=lambda row: row.key)
def test_what_a_request_to_the_provider_holds_distinguishes_sessions(row: Row) -> None:
    assert Settings().with_value(row, "x").oidc.parameters[row.parameter] == "x"
    assert row.distinguishes
