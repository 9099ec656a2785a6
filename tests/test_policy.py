"""What the administrator of a machine decides: who is one, what counts, and what it does to the settings."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from thv_llm import policy, settings, system
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.policy import Policy
from thv_llm.system import file_system

OWNERS = {0, system.user_id()}
TEXT = """
gateway_url = "https://llm.example.com"
locked = ["gateway_url", "oidc.audience"]
allowed_issuers = ["https://id.example.com/tenant"]
[oidc]
client_id = "thv-llm"
"""


def decided(tmp_path: Path, text: str = TEXT) -> Policy:
    path = tmp_path / "system.toml"
    path.write_text(text)
    path.chmod(0o644)
    return policy.load(str(path), "", owners=OWNERS)


def saved(tmp_path: Path, text: str) -> str:
    path = tmp_path / "llm.toml"
    path.write_text(text)
    return str(path)


def test_without_a_file_nothing_is_decided(tmp_path: Path) -> None:
    assert policy.load(str(tmp_path / "none.toml"), str(tmp_path / "none")) == Policy()


def test_its_values_are_below_the_users(tmp_path: Path) -> None:
    path = saved(tmp_path, '[oidc]\nclient_id = "mine"\n')

    found = settings.load(path, decided=decided(tmp_path, '[oidc]\nclient_id = "a"\naudience = "b"\n'))

    assert (found.oidc.client_id, found.oidc.audience) == ("mine", "b")


def test_a_locked_key_has_the_administrators_value_or_the_default(tmp_path: Path) -> None:
    path = saved(tmp_path, 'gateway_url = "https://evil.example"\n[oidc]\naudience = "evil"\n')

    found = settings.load(path, decided=decided(tmp_path))

    assert (found.gateway_url, found.oidc.audience) == ("https://llm.example.com", "")


def test_a_flag_for_a_locked_key_is_refused_and_names_the_file(tmp_path: Path) -> None:
    here = decided(tmp_path)
    settings.require_unlocked({"gateway_url": "https://llm.example.com", "oidc.client_id": "x"}, here)

    with pytest.raises(UsageError, match=r"gateway_url, oidc\.audience cannot be changed") as caught:
        settings.require_unlocked({"gateway_url": "https://evil.example", "oidc.audience": "evil"}, here)

    assert caught.value.why == f"locked by {here.path}"


@pytest.mark.parametrize(
    ("issuer", "is_allowed"),
    [
        ("https://id.example.com/tenant", True),
        ("https://id.example.com/tenant/v2.0", True),
        ("https://id.example.com/tenants", False),
        ("https://id.example.com/other", False),
        ("https://id.example.com.evil.example/tenant", False),
    ],
)
def test_an_issuer_must_be_below_one_that_is_allowed(tmp_path: Path, issuer: str, is_allowed: bool) -> None:
    here = decided(tmp_path)
    path = saved(tmp_path, f'[oidc]\nissuer = "{issuer}"\n')

    if is_allowed:
        assert settings.load(path, decided=here).oidc.issuer == issuer
        return
    with pytest.raises(ThvLlmError, match="not allowed on this machine"):
        settings.load(path, decided=here)
    with pytest.raises(UsageError, match="not allowed on this machine"):
        settings.overlaid(settings.base(here), {"oidc.issuer": issuer}, here)


def test_back_to_the_default_is_back_to_the_administrators_value(tmp_path: Path) -> None:
    here = decided(tmp_path, '[oidc]\naudience = "b"\n')
    mine = settings.load(saved(tmp_path, '[oidc]\naudience = "mine"\n'), decided=here)

    assert settings.overlaid(mine, {"oidc.audience": ""}, here).oidc.audience == "b"
    assert settings.overlaid(mine, {"oidc.audience": None}, here).oidc.audience == "b"


def test_each_value_has_its_source(tmp_path: Path) -> None:
    here = decided(tmp_path)
    path = saved(tmp_path, 'gateway_url = "https://evil.example"\n[oidc]\nprompt = "login"\n')

    found = settings.sources(path, here)

    assert found["gateway_url"] == found["oidc.client_id"] == here.path
    assert found["oidc.prompt"] == path
    assert "models" not in found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gateway_ulr = 1", "'gateway_ulr' is not a setting. Did you mean `gateway_url`?"),
        ('locked = ["gateway"]', "'gateway' is not a setting"),
        ('locked = "gateway_url"', "locked must be a list of strings"),
        ("allowed_gateways = [1]", "allowed_gateways must be a list of strings"),
        ("gateway_url = ", "not TOML"),
        ('gateway_url = "http://x"', "it must be an https URL"),
    ],
)
def test_a_bad_file_is_named_and_is_not_for_its_user_to_fix(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ThvLlmError) as caught:
        settings.base(decided(tmp_path, text))

    assert why in f"{caught.value.why}"
    assert str(tmp_path) in f"{caught.value.what} {caught.value.why}"
    assert caught.value.next_step == policy.NEXT_STEP


def test_only_administrators_can_decide(tmp_path: Path) -> None:
    above = tmp_path / "etc"
    above.mkdir()
    path = above / "llm.toml"
    path.write_text(TEXT)
    path.chmod(0o644)
    assert policy.load(str(path), "", owners=OWNERS).path

    with pytest.raises(ThvLlmError, match="cannot trust") as caught:
        policy.load(str(path), "", owners={12345})
    assert "must belong to root" in caught.value.next_step

    for mode, victim in ((0o666, path), (0o664, path), (0o777, above)):
        victim.chmod(mode)
        with pytest.raises(ThvLlmError, match="cannot trust") as caught:
            policy.load(str(path), "", owners=OWNERS)
        assert str(victim) in caught.value.why
        victim.chmod(0o755 if victim is above else 0o644)


def test_a_link_is_followed_and_all_on_its_way_is_looked_at(tmp_path: Path) -> None:
    store, etc = tmp_path / "store", tmp_path / "etc"
    for directory in (store, store / "abc", etc):
        directory.mkdir()
    (store / "abc" / "llm.toml").write_text(TEXT)
    (store / "abc" / "llm.toml").chmod(0o444)
    (etc / "toolhive").symlink_to("../store/abc")
    path = str(etc / "toolhive" / "llm.toml")
    store.chmod(0o1777)  # as Nix's store: what is in it belongs to its maker
    assert policy.load(path, "", owners=OWNERS).path == path

    store.chmod(0o777)
    with pytest.raises(ThvLlmError, match="cannot trust") as caught:
        policy.load(path, "", owners=OWNERS)
    assert f"change {store}" in caught.value.why


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "llm.toml").mkdir()

    with pytest.raises(ThvLlmError, match="cannot use the settings of this machine"):
        policy.load(str(tmp_path / "llm.toml"), "", owners=OWNERS)


def test_managed_preferences_of_macos_come_last(tmp_path: Path) -> None:
    (tmp_path / "jo").mkdir()
    everyone = {"gateway_url": "https://b.example", "proxy": {"listen_port": 15000}, "locked": ["models"]}
    (tmp_path / "com.stacklok.thv-llm.plist").write_bytes(plistlib.dumps(everyone))
    of_jo = {"oidc.client_id": "jo", "allowed_gateways": ["https://b.example"]}
    (tmp_path / "jo" / "com.stacklok.thv-llm.plist").write_bytes(
        plistlib.dumps(of_jo, fmt=plistlib.FMT_BINARY)
    )
    for path in tmp_path.rglob("*.plist"):
        path.chmod(0o644)
    (tmp_path / "llm.toml").write_text(TEXT)
    (tmp_path / "llm.toml").chmod(0o644)

    found = policy.load(str(tmp_path / "llm.toml"), str(tmp_path), user="jo", owners=OWNERS)
    wanted = settings.base(found)

    assert (wanted.gateway_url, wanted.proxy_port, wanted.oidc.client_id) == (
        "https://b.example",
        15000,
        "jo",
    )
    assert found.locked == ("gateway_url", "oidc.audience", "models")
    assert found.allowed == {
        "oidc.issuer": ("https://id.example.com/tenant",),
        "gateway_url": ("https://b.example",),
    }
    (tmp_path / "com.stacklok.thv-llm.plist").write_bytes(b"<plist>")
    with pytest.raises(ThvLlmError, match="cannot use the settings of this machine"):
        policy.load(str(tmp_path / "llm.toml"), str(tmp_path), user="jo", owners=OWNERS)


@pytest.mark.posix
def test_no_variable_says_whose_preferences_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / file_system.account(system.user_id())
    own.mkdir()
    (own / "com.stacklok.thv-llm.plist").write_bytes(plistlib.dumps({"locked": ["models"]}))
    (own / "com.stacklok.thv-llm.plist").chmod(0o644)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "another")

    assert policy.load(str(tmp_path / "none"), str(tmp_path), owners=OWNERS).locked == ("models",)


@pytest.mark.parametrize(
    ("url", "is_below"),
    [
        ("https://id.example.com/t", True),
        ("https://ID.example.com:443/t/v2", True),
        ("http://id.example.com/t", False),
        ("https://id.example.com:8443/t", False),
        ("https://id.example.com/t/../other", False),
        ("https://id.example.com/t/%2e%2e/other", False),
        ("https://id.example.com/t/..", False),
        ("https://id.example.com/t//x", False),
        ("https://id.example.com/t\\..\\other", False),
        ("https://[::1", False),
    ],
)
def test_no_spelling_leads_out_of_what_is_allowed(url: str, is_below: bool) -> None:
    here = Policy("/etc/toolhive/llm.toml", {}, (), {"oidc.issuer": ("https://id.example.com/t/",)})

    assert here.forbids("oidc.issuer", url) is not is_below


def test_each_of_several_files_is_named_for_its_own_values(tmp_path: Path) -> None:
    (tmp_path / "com.stacklok.thv-llm.plist").write_bytes(plistlib.dumps({"oidc.audience": "b"}))
    (tmp_path / "llm.toml").write_text(TEXT)
    for path in tmp_path.iterdir():
        path.chmod(0o644)

    here = policy.load(str(tmp_path / "llm.toml"), str(tmp_path), user="jo", owners=OWNERS)
    found = settings.sources(str(tmp_path / "none"), here)

    assert found["gateway_url"] == str(tmp_path / "llm.toml")
    assert found["oidc.audience"].endswith(".plist")


def test_a_value_of_the_administrator_that_is_not_allowed_is_not_for_the_user_to_fix(tmp_path: Path) -> None:
    here = decided(tmp_path, 'gateway_url = "https://a.example"\nallowed_gateways = ["https://b.example"]\n')

    with pytest.raises(ThvLlmError, match="not allowed") as caught:
        settings.load(str(tmp_path / "none"), decided=here)

    assert caught.value.next_step == policy.NEXT_STEP
