"""The network of the user's shell, kept for the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.connect_proxy import ConnectProxy
from tests.service.lab import Lab
from thv_llm import settings
from thv_llm.errors import UsageError
from thv_llm.service import agent_protocol, network
from thv_llm.settings import ROWS, Settings, checked

ROW = next(row for row in ROWS if row.key == "service.network")


def test_what_the_environment_has_is_saved_and_what_it_lacks_stays() -> None:
    saved = network.to_save({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://other:1"}, ())
    assert saved == ("HTTPS_PROXY=http://p:1",)

    assert network.to_save({"NO_PROXY": "a,b"}, saved) == ("HTTPS_PROXY=http://p:1", "NO_PROXY=a,b")
    assert network.to_save({"HTTPS_PROXY": "http://q:1"}, saved) == ("HTTPS_PROXY=http://q:1",)
    assert network.to_save({}, saved) == saved


def test_a_proxy_for_everything_is_saved_as_the_one_for_https() -> None:
    assert network.to_save({"ALL_PROXY": "http://user:pw@all:1"}, ()) == ("HTTPS_PROXY=http://user@all:1",)
    assert network.to_save({"all_proxy": "http://all:1", "https_proxy": "http://p:1"}, ()) == (
        "HTTPS_PROXY=http://p:1",
    )


def test_a_password_is_never_saved() -> None:
    saved = network.to_save({"HTTPS_PROXY": "http://user:p%40ss@proxy:3128"}, ())

    assert saved == ("HTTPS_PROXY=http://user@proxy:3128",)
    with pytest.raises(UsageError, match="without its password"):
        checked(ROW, ["HTTPS_PROXY=http://user:canary@proxy:3128"])


def test_saved_rows_win_in_every_spelling() -> None:
    wanted = Settings(network=("HTTPS_PROXY=http://p:1", "SSL_CERT_FILE=/ca.pem"))

    found = network.environment(wanted, {"https_proxy": "http://evil:1", "NO_PROXY": "x", "HOME": "/h"})

    assert found == {"HTTPS_PROXY": "http://p:1", "SSL_CERT_FILE": "/ca.pem", "NO_PROXY": "x", "HOME": "/h"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["NO_PROXY=a", "b", "SSL_CERT_DIR=/c"], ("NO_PROXY=a,b", "SSL_CERT_DIR=/c")),
        (["SSL_CERT_FILE=/a", "HTTPS_PROXY=http://p"], ("HTTPS_PROXY=http://p", "SSL_CERT_FILE=/a")),
    ],
)
def test_a_list_that_a_flag_has_split_is_put_together(given: list[str], kept: tuple[str, ...]) -> None:
    assert checked(ROW, given) == kept


@pytest.mark.parametrize(
    "given", [["PATH=/evil"], ["HTTPS_PROXY"], ["b"], ["HTTPS_PROXY=a\nb"], ["NO_PROXY="]]
)
def test_other_variables_are_refused(given: list[str]) -> None:
    with pytest.raises(UsageError):
        checked(ROW, given)


def test_a_service_from_a_bare_environment_uses_what_setup_saved(lab: Lab) -> None:
    ca_file = str(lab.provider.ca_file)
    settings.save(lab.paths, {"ca_file": None, "service.network": (f"SSL_CERT_FILE={ca_file}",)})

    lab.start(proxy=False)

    token = agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10).split()[1]
    assert lab.provider.verify_access_token(token)


def test_a_cold_token_uses_it_too(lab: Lab) -> None:
    ca_file = str(lab.provider.ca_file)
    settings.save(lab.paths, {"ca_file": None, "service.network": (f"SSL_CERT_FILE={ca_file}",)})

    assert lab.provider.verify_access_token(lab.run("token").out.strip())


def test_the_service_reaches_the_provider_through_a_proxy_with_a_stored_password(lab: Lab) -> None:
    with ConnectProxy("user", "canary-pw") as company:
        shell = {**lab.environ, "HTTPS_PROXY": company.url}
        wanted = settings.save(lab.paths, {"service.network": network.to_save(shell, ())})
        network.keep_password(wanted, lab.paths, shell)

        lab.start(proxy=False)
        token = agent_protocol.call(lab.paths.socket, "token 60", timeout_s=10).split()[1]

        assert lab.provider.verify_access_token(token)
        assert company.targets
        lab.kill()
        assert lab.provider.verify_access_token(lab.run("token").out.strip())


def test_the_proxys_password_comes_from_the_store(lab: Lab) -> None:
    shell = {**lab.environ, "HTTPS_PROXY": "http://user:p%40ss@127.0.0.1:9"}
    known = settings.load(lab.paths.settings)
    wanted = settings.save(lab.paths, {"service.network": network.to_save(shell, known.network)})
    network.keep_password(wanted, lab.paths, shell)

    bare = network.environment(wanted, lab.environ)
    assert network.needs_password(bare)
    network.add_password(wanted, lab.paths, bare)

    assert bare["HTTPS_PROXY"] == "http://user:p%40ss@127.0.0.1:9"
    assert not network.needs_password(bare)
    assert not [
        path
        for path in Path(lab.paths.directory).iterdir()
        if path.is_file() and b"p%40ss" in path.read_bytes()
    ]
    network.forget_password(wanted, lab.paths, lab.environ)
    bare = network.environment(wanted, lab.environ)
    network.add_password(wanted, lab.paths, bare)
    assert bare["HTTPS_PROXY"] == "http://user:@127.0.0.1:9"
