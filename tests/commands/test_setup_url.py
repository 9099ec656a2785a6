"""Setting up from the gateway's URL alone: what is found, shown, asked and refused."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from tests.commands.homes import Run, free_port
from tests.commands.machine import Machine
from tests.fakes.browser import no_browser
from tests.fakes.gateway import FakeGateway
from tests.fakes.grants import Grant
from tests.fakes.hostile_metadata import ATTACKS, CLIENT, Attack
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.net.test_tls import Authority
from thv_llm import checks, policy, settings
from thv_llm.settings import Settings

YES = "y\n"
PROFILE = "com.stacklok.thv-llm."
NO_CLIENT: Mapping[str, object] = dict.fromkeys(CLIENT)


def publish(here: Machine, members: Mapping[str, object] = {}, gateway: FakeGateway | None = None) -> None:
    """Have the gateway say how to log in."""
    document = {"authorization_servers": [here.provider.issuer], **CLIENT, **members}
    (gateway or here.gateway).publish(document)


def setup(here: Machine, *words: str, stdin: str = YES * 2, is_terminal: bool = True, url: str = "") -> Run:
    """Type `setup URL` with what this test machine needs besides."""
    own = ("--ca-file", str(here.provider.ca_file), "--proxy-port", str(here.port), "--no-service")
    return here.run("setup", url or here.gateway.url, *own, *words, stdin=stdin, is_terminal=is_terminal)


def saved(here: Machine) -> Settings:
    return settings.load(here.paths.settings)


def is_untouched(here: Machine) -> bool:
    """Tell whether nothing was saved and no login was started."""
    is_saved = Path(here.paths.settings).exists()
    return not is_saved and here.provider.count("authorize") == 0 and here.browser.urls == []


def decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Have the administrator of this machine decide something."""
    decided = policy._with(policy.Policy(), str(tmp_path / "decided.toml"), text.encode())
    monkeypatch.setattr(policy, "load", lambda: decided)


def test_one_url_and_one_yes_set_everything_up(here: Machine) -> None:
    publish(here)

    done = setup(here)

    assert done.code == 0, done.err
    assert here.wired == ["claude-code", "opencode"]
    assert saved(here).gateway_url == here.gateway.url
    assert saved(here).oidc.issuer == here.provider.issuer
    assert saved(here).oidc.client_id == "thv-llm"
    assert "Logged in as 'dev@example.com'" in done.err
    assert "[y/N]" in done.err


def test_what_was_found_is_shown_before_the_question(here: Machine) -> None:
    publish(here, {"scopes_supported": ["llm"], f"{PROFILE}audience": "team-llm"})

    done = setup(here, stdin="n\n")

    before, question, after = done.err.partition("Use these settings? [y/N]")
    assert question
    for text in (here.gateway.url, repr(here.provider.issuer), "'thv-llm'", "'llm openid offline_access'"):
        assert text in before
    assert f"Tokens for 'team-llm' will be sent to {here.gateway.url.removeprefix('https://')}" in before
    assert "cancelled" in after


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "maybe\n"])
def test_only_a_yes_is_a_yes(here: Machine, answer: str) -> None:
    publish(here)
    before = here.snapshot()

    done = setup(here, stdin=answer)

    assert done.code == 1
    assert "nothing was changed" in done.err
    assert is_untouched(here)
    assert here.snapshot() == before


@pytest.mark.parametrize("typed", ["{host}", "{host}/", "HTTPS://{host}", "https://LOCALHOST:{port}/"])
def test_a_host_alone_means_https_and_its_case_means_nothing(here: Machine, typed: str) -> None:
    url = here.gateway.url
    if "LOCALHOST" in typed:
        url = url.replace("127.0.0.1", "localhost")
    publish(here, {"resource": url})

    done = setup(here, url=typed.format(host=url.removeprefix("https://"), port=here.gateway.port))

    assert done.code == 0, done.err
    assert saved(here).gateway_url == url


@pytest.mark.parametrize("url", ["http://llm.example.com", "ftp://llm.example.com", "https://a@b.example"])
def test_a_url_that_is_no_gateways_is_refused_before_anything_is_sent(here: Machine, url: str) -> None:
    done = setup(here, url=url)

    assert done.code == 2
    assert "gateway_url" in done.err
    assert here.gateway.requests == []


def test_two_gateways_on_one_line_are_refused(here: Machine) -> None:
    done = setup(here, "--gateway-url", "https://other.example.com")

    assert done.code == 2
    assert "two gateways are named" in done.err


def test_a_flag_wins_over_what_is_published(here: Machine) -> None:
    publish(here, {"scopes_supported": ["User.Read"]})

    done = setup(here, "--scopes", "openid offline_access mine", "--client-id", "typed")

    assert done.code == 0, done.err
    assert saved(here).oidc.scopes == ("openid", "offline_access", "mine")
    assert saved(here).oidc.client_id == "typed"


def test_with_issuer_and_client_id_on_the_line_no_document_is_requested(here: Machine) -> None:
    publish(here)

    done = setup(here, "--issuer", here.provider.issuer, "--client-id", "typed", stdin="y\n")

    assert done.code == 0, done.err
    assert not any("well-known" in one.path for one in here.gateway.requests)


def test_a_later_run_without_the_url_sends_no_request(here: Machine) -> None:
    publish(here)
    assert setup(here).code == 0
    here.gateway.requests.clear()
    here.gateway.publish({"authorization_servers": ["https://evil.example"], **CLIENT})

    again = here.run("setup", "--no-service")

    assert again.code == 0, again.err
    assert not any("well-known" in one.path for one in here.gateway.requests)
    assert saved(here).oidc.issuer == here.provider.issuer


def test_the_same_url_again_asks_only_when_something_has_changed(here: Machine) -> None:
    publish(here)
    assert setup(here).code == 0

    assert "Use these settings?" not in setup(here, stdin="").err
    publish(here, {"scopes_supported": ["llm"]})
    changed = setup(here, stdin="n\n")

    assert "Use these settings?" in changed.err
    assert "llm" not in saved(here).oidc.scopes


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_each_attack_ends_setup_with_its_reason_and_changes_nothing(here: Machine, attack: Attack) -> None:
    attack.plant(here.gateway, here.provider.issuer)
    here.open_browser = no_browser
    before = here.snapshot()

    done = setup(here, "--yes", is_terminal=False)

    assert done.code == (6 if attack.is_about_us else 2), done.err
    assert attack.said in done.err
    assert "\x1b" not in done.err
    assert is_untouched(here)
    assert here.snapshot() == before
    assert here.provider.requests == []


def test_metadata_of_another_issuer_is_refused(here: Machine) -> None:
    publish(here, {"authorization_servers": [here.provider.issuer + "/"]})

    done = setup(here)

    assert done.code == 6
    assert "names the issuer" in done.err
    assert is_untouched(here)


def test_where_the_issuers_authority_is_unknown_the_fingerprint_that_is_published_is_shown(
    here: Machine, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pinned = authority.certificate.fingerprint(hashes.SHA256()).hex()
    here.provider._context = authority.server("id", "127.0.0.1")
    publish(here, {f"{PROFILE}ca_sha256": ":".join(re.findall("..", pinned.upper()))})

    refused = setup(here)

    assert refused.code == 6
    assert "does not trust; the gateway's administrator names one whose SHA-256 is" in refused.err
    assert pinned in refused.err
    assert re.search(f"then: thv-llm setup {here.gateway.url} .*--ca-file FILE\n", refused.err)
    assert is_untouched(here)
    both = tmp_path / "both.pem"
    both.write_bytes(authority.file.read_bytes() + Path(here.provider.ca_file).read_bytes())
    assert setup(here, "--ca-file", str(both), "--lazy").code == 0
    publish(here, {f"{PROFILE}ca_sha256": "the one of mine"})
    assert "SHA-256" not in setup(here).err


def test_where_the_gateways_authority_is_unknown_the_whole_line_is_printed(here: Machine) -> None:
    publish(here)

    refused = here.run("setup", here.gateway.url)
    line = f"thv-llm setup {here.gateway.url} --ca-file FILE"

    assert refused.code == 6
    assert f"next: if your network has its own: {line}\n" in refused.err


STOLEN = "https://api.bank.example"


def issue_for_another_audience(here: Machine) -> None:
    """Have the provider ignore what the login asked for."""
    tokens = here.provider._tokens

    def other(grant: Grant, refresh: str | None, *, has_id_token: bool) -> dict[str, object]:
        return tokens(replace(grant, audience=STOLEN), refresh, has_id_token=has_id_token)

    here.provider._tokens = other  # type: ignore[method-assign]


def test_a_token_for_another_audience_is_not_kept_and_does_not_reach_the_gateway(here: Machine) -> None:
    publish(here)
    issue_for_another_audience(here)

    done = setup(here)

    assert done.code == 1
    assert "the token is not for the gateway" in done.err
    assert STOLEN in done.err
    assert "the token is not for the gateway" in here.browser.page or STOLEN in here.browser.page
    assert not any(one.header("authorization") for one in here.gateway.requests)
    assert not Path(here.paths.settings).exists()
    assert "Not logged in" in here.run("logout").err


def test_so_it_is_after_a_lazy_setup(here: Machine) -> None:
    publish(here)
    assert setup(here, "--lazy").code == 0
    issue_for_another_audience(here)

    done = here.run("login")

    assert done.code == 1
    assert STOLEN in done.err
    assert here.run("token").code == 4


@pytest.mark.parametrize("words", [("--audience", STOLEN), ("--scopes", f"openid {STOLEN}/.default")])
def test_an_audience_that_the_user_has_typed_is_taken(here: Machine, words: tuple[str, str]) -> None:
    publish(here)
    issue_for_another_audience(here)

    done = setup(here, *words)

    assert done.code == 0, done.err


# Without a terminal


def test_without_a_terminal_an_issuer_that_was_found_is_not_taken(here: Machine) -> None:
    publish(here)

    for words in ([], ["--yes"]):
        done = setup(here, *words, is_terminal=False)

        assert done.code == 2, done.err
        assert "was not confirmed" in done.err
        line = f"thv-llm setup {here.gateway.url} .*--issuer {here.provider.issuer} --yes\n"
        assert re.search(line, done.err)
        assert is_untouched(here)


def test_the_line_that_is_then_printed_works(here: Machine) -> None:
    publish(here)
    refused = setup(here, is_terminal=False)
    line = refused.err.partition("if it is right: thv-llm ")[2]

    done = here.run(*shlex.split(line))

    assert done.code == 0, done.err
    assert saved(here).oidc.client_id == "thv-llm"


def test_an_issuer_that_the_administrator_allows_needs_no_question(
    here: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(here)
    decide(monkeypatch, tmp_path, f'allowed_issuers = ["{here.provider.issuer}"]\n')

    assert setup(here, "--yes", is_terminal=False).code == 0


def test_what_the_administrator_does_not_allow_is_not_even_asked(
    here: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(here)
    decide(monkeypatch, tmp_path, 'allowed_issuers = ["https://id.example.com"]\n')

    done = setup(here)

    assert done.code == 2
    assert "is not allowed on this machine" in done.err
    assert here.provider.requests == []


def test_a_gateway_that_is_not_allowed_gets_no_request(
    here: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(here)
    decide(monkeypatch, tmp_path, 'allowed_gateways = ["https://llm.example.com"]\n')

    assert setup(here).code == 2
    assert here.gateway.requests == []


def test_a_locked_issuer_stands(here: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    publish(here)
    decide(monkeypatch, tmp_path, 'locked = ["oidc.issuer"]\n[oidc]\nissuer = "https://id.example.com"\n')

    done = setup(here, "--yes", is_terminal=False)

    assert done.code == 2
    assert f"it is for the issuer '{here.provider.issuer}', not for yours" in done.err
    assert here.provider.requests == []


@pytest.mark.parametrize("words", [[], ["--yes"]])
def test_a_stored_sessions_tokens_go_to_no_other_gateway_and_no_other_issuer(
    here: Machine, words: list[str]
) -> None:
    publish(here)
    assert setup(here).code == 0
    before = Path(here.paths.settings).read_bytes()
    with FakeGateway(here.provider.verify_access_token) as hostile, FakeProvider() as phisher:
        publish(here, gateway=hostile)
        moved = setup(here, *words, is_terminal=False, url=hostile.url)
        publish(here, {"authorization_servers": [phisher.issuer]})
        renamed = setup(here, *words, is_terminal=False)

        assert (moved.code, renamed.code) == (2, 2)
        assert not any(one.header("authorization") for one in hostile.requests)
        assert phisher.count("authorize") == 0
    assert Path(here.paths.settings).read_bytes() == before


def test_with_yes_a_change_that_moves_no_origin_is_taken_and_shown(here: Machine) -> None:
    publish(here)
    assert setup(here).code == 0
    publish(here, {"scopes_supported": ["llm"]})

    done = setup(here, "--yes", is_terminal=False)

    assert done.code == 0, done.err
    assert "'llm openid offline_access'" in done.err
    assert "llm" in saved(here).oidc.scopes


def test_what_the_old_gateway_named_does_not_go_to_the_new_one(here: Machine) -> None:
    publish(here, {f"{PROFILE}audience": "old", "com.stacklok.thv-llm.callback_port": free_port()})
    assert setup(here, "--auth-param", "a=b").code == 0
    with FakeGateway(here.provider.verify_access_token) as other:
        publish(here, gateway=other)
        assert setup(here, url=other.url).code == 0

        assert saved(here).gateway_url == other.url
        assert saved(here).oidc.audience == ""
        assert saved(here).oidc.callback_port == 0
        assert saved(here).oidc.extra_params == ("a=b",)  # the issuer is the same


# Nothing is published


def test_where_nothing_is_published_the_places_and_the_line_to_type_are_named(here: Machine) -> None:
    done = setup(here, is_terminal=False)

    assert done.code == 2
    for place in ("/.well-known/oauth-protected-resource: HTTP 404", "/v1/models: HTTP 401"):
        assert here.gateway.url + place in done.err
    assert f"{here.gateway.url}/.well-known/oauth-authorization-server: HTTP 404" in done.err
    assert re.search(f"next: thv-llm setup {here.gateway.url} .*--issuer URL --client-id ID\n", done.err)
    assert is_untouched(here)


def test_at_a_terminal_what_is_missing_is_asked_for(here: Machine) -> None:
    done = setup(here, stdin=f"{here.provider.issuer}\nmy-client\n{YES}")

    assert done.code == 0, done.err
    assert saved(here).oidc.issuer == here.provider.issuer
    assert saved(here).oidc.client_id == "my-client"


def test_setup_alone_asks_for_the_gateway_first(here: Machine) -> None:
    publish(here)

    done = here.run(
        "setup",
        *("--ca-file", str(here.provider.ca_file), "--proxy-port", str(here.port), "--no-service"),
        stdin=f"{here.gateway.url}\n{YES * 2}",
        is_terminal=True,
    )

    assert done.code == 0, done.err
    assert "URL of the LLM gateway:" in done.err
    assert saved(here).oidc.client_id == "thv-llm"


def test_only_what_is_missing_is_asked_for(here: Machine) -> None:
    publish(here, NO_CLIENT)

    done = setup(here, stdin=f"my-client\n{YES * 2}")

    assert done.code == 0, done.err
    assert "Client id of thv-llm" in done.err
    assert "URL of the issuer" not in done.err
    assert saved(here).oidc.client_id == "my-client"


@pytest.mark.parametrize("typed", ["no url\n", "http://id.example.com\n", "\n", ""])
def test_a_bad_or_missing_response_changes_nothing(here: Machine, typed: str) -> None:
    done = setup(here, stdin=typed)

    assert done.code in (1, 2)
    assert is_untouched(here)


def test_of_several_issuers_the_user_chooses(here: Machine) -> None:
    publish(here, {"authorization_servers": ["https://other.example", here.provider.issuer]})

    done = setup(here, stdin=f"2\n{YES * 2}")

    assert done.code == 0, done.err
    assert saved(here).oidc.issuer == here.provider.issuer


@pytest.mark.parametrize("typed", ["0\n", "3\n", "x\n", "\n"])
def test_a_choice_that_is_none_changes_nothing(here: Machine, typed: str) -> None:
    publish(here, {"authorization_servers": ["https://other.example", here.provider.issuer]})

    assert setup(here, stdin=typed).code == 2
    assert is_untouched(here)


def test_several_issuers_are_refused_without_a_terminal_and_one_can_be_named(here: Machine) -> None:
    publish(here, {"authorization_servers": ["https://other.example", here.provider.issuer]})

    refused = setup(here, "--yes", is_terminal=False)
    done = setup(here, "--yes", "--issuer", here.provider.issuer, is_terminal=False)

    assert refused.code == 2
    assert "several issuers" in refused.err
    assert done.code == 0, done.err


def test_a_workload_needs_no_document(here: Machine, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("at-1")
    token.chmod(0o600)

    done = setup(here, "--grant", "token-file", "--token-file", str(token), "--lazy", is_terminal=False)

    assert done.code == 0, done.err
    assert not any("well-known" in one.path for one in here.gateway.requests)


# Registration


def test_a_client_is_registered_after_a_yes(here: Machine) -> None:
    here.provider.registers = True
    publish(here, NO_CLIENT)

    refused = setup(here, stdin="n\n")
    assert refused.code == 1
    assert here.provider.count("register") == 0
    done = setup(here)

    assert done.code == 0, done.err
    assert saved(here).oidc.client_id == "registered-1"
    client = json.loads(here.provider.last("register").body)
    assert client["redirect_uris"] == ["http://127.0.0.1/callback"]
    assert client["token_endpoint_auth_method"] == "none"


def test_a_dry_run_shows_and_registers_and_saves_nothing(here: Machine) -> None:
    here.provider.registers = True
    publish(here, NO_CLIENT)

    done = setup(here, "--dry-run", is_terminal=False)

    assert done.code == 0, done.err
    assert repr(here.provider.issuer) in done.err
    assert "apiKeyHelper" in done.out
    assert here.provider.count("register") == 0
    assert is_untouched(here)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ServerResponse(403, {"error": "access_denied"}), "access_denied"),
        (
            ServerResponse(201, {"client_id": "x", "client_secret": "thv-canary-s"}),
            "gave the client a secret",
        ),
        (ServerResponse(201, {"client_id": ""}), "names no client_id"),
        (ServerResponse(201, {"client_id": "a" * 2000}), "names no client_id"),
        (ServerResponse(302, headers={"Location": "https://evil.example/"}), "redirects to 'evil.example'"),
    ],
)
def test_a_registration_that_fails_says_why_and_changes_nothing(
    here: Machine, answer: ServerResponse, said: str
) -> None:
    here.provider.registers = True
    here.provider.alter["register"] = lambda _: answer
    publish(here, NO_CLIENT)

    done = setup(here)

    assert done.code == 6
    assert said in done.err
    assert "thv-canary-s" not in done.err
    assert is_untouched(here)


# What doctor says of it afterwards


def published(here: Machine) -> list[checks.Check]:
    look = checks.Installation(here.environ, here.paths, "linux", time.time)
    return list(checks.run(look, only=("published",)))


def test_doctor_compares_the_document_with_the_settings(here: Machine) -> None:
    publish(here, {"scopes_supported": ["llm"], f"{PROFILE}audience": "team-llm"})
    assert setup(here).code == 0

    (same,) = published(here)
    publish(here, {"scopes_supported": ["other"], f"{PROFILE}models": ["m-9"]})
    (changed,) = published(here)

    assert same.level is checks.Level.OK
    assert changed.level is checks.Level.WARN
    assert "oidc.scopes 'other openid offline_access' (here: 'llm openid offline_access')" in changed.reason
    assert "oidc.audience '' (here: 'team-llm')" in changed.reason
    assert "models 'm-9'" in changed.reason
    assert changed.next_step == f"thv-llm setup {here.gateway.url}"
    assert changed.fix == ()


def test_the_command_that_doctor_then_prints_takes_the_change_over(here: Machine) -> None:
    publish(here)
    assert setup(here).code == 0
    publish(here, {f"{PROFILE}client_id": "new-client"})
    words = published(here)[0].next_step.split()[1:]

    done = here.run(*words, "--no-service", stdin=YES * 2, is_terminal=True)

    assert done.code == 0, done.err
    assert saved(here).oidc.client_id == "new-client"
    assert published(here)[0].level is checks.Level.OK


def test_another_issuer_in_the_document_is_told_and_not_followed(here: Machine) -> None:
    publish(here)
    assert setup(here).code == 0
    with FakeProvider() as other:
        publish(here, {"authorization_servers": [other.issuer]})
        (found,) = published(here)

        assert found.level is checks.Level.WARN
        assert f"oidc.issuer '{other.issuer}' (here: '{here.provider.issuer}')" in found.reason
        assert other.count("authorize") == 0
    assert saved(here).oidc.issuer == here.provider.issuer


@pytest.mark.parametrize(
    ("document", "said"),
    [(None, "no longer publishes how to log in"), ({"scopes_supported": ["User.Read"]}, "'User.Read'")],
)
def test_a_document_that_is_gone_or_turned_bad_is_told(
    here: Machine, document: dict[str, object] | None, said: str
) -> None:
    publish(here)
    assert setup(here).code == 0
    here.gateway.published.clear()
    if document:
        publish(here, document)

    (found,) = published(here)

    assert found.level is checks.Level.WARN
    assert said in found.reason


def test_what_was_typed_is_no_difference_to_tell(here: Machine) -> None:
    publish(here, {"scopes_supported": ["llm"]})
    assert setup(here).code == 0
    assert setup(here, "--scopes", "openid mine").code == 0
    assert published(here)[0].level is checks.Level.OK

    here.run("config", "set", "--client-id", "mine")

    assert published(here)[0].level is checks.Level.OK


def test_where_nothing_was_taken_from_a_document_it_is_not_requested(here: Machine) -> None:
    publish(here)
    assert here.setup().code == 0
    here.gateway.requests.clear()

    assert published(here) == []
    assert here.gateway.requests == []
