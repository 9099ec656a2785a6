"""What setup, teardown and tools share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import homes
from thv_llm import settings
from thv_llm.commands import wiring
from thv_llm.state import ServiceState, State, WiredTool
from thv_llm.tools import engine
from thv_llm.tools.model import PLACEHOLDER_KEY


def state_with(*modes: str) -> State:
    return State(wired=tuple(WiredTool(f"tool-{number}", mode, ()) for number, mode in enumerate(modes)))


def test_the_service_runs_the_proxy_only_for_proxy_tools() -> None:
    def wanted(*modes: str) -> ServiceState:
        return wiring.with_service(state_with(*modes), wanted=True).service

    assert (wanted("direct").wanted, wanted("direct").proxy) == (True, False)
    assert (wanted("direct", "proxy").wanted, wanted("direct", "proxy").proxy) == (True, True)
    assert wanted().wanted is False


def test_without_the_wish_there_is_no_service() -> None:
    assert wiring.with_service(state_with("proxy"), wanted=False).service.wanted is False


def test_before_setup_a_placeholder_stands_for_the_key(tmp_path: Path) -> None:
    home = homes.make(tmp_path)
    found = wiring.values(home.context(), settings.Settings(gateway_url="https://g"), models=("m",))

    assert found.local_key == PLACEHOLDER_KEY
    assert found.helper_path == home.paths.helper


@pytest.mark.parametrize(("prefix", "path"), [("/anthropic", "/anthropic"), ("", ""), (None, "")])
def test_an_api_whose_place_is_unknown_is_at_the_root(tmp_path: Path, prefix: str | None, path: str) -> None:
    wanted = settings.Settings(gateway_url="https://g", anthropic_path_prefix=prefix)

    assert wiring.values(homes.make(tmp_path).context(), wanted, models=()).anthropic_path == path


def test_only_tools_with_files_of_their_own_can_be_wired() -> None:
    assert wiring.can_wire(engine.by_name("codex"))
    assert not wiring.can_wire(engine.by_name("cursor"))
    assert not wiring.can_wire(engine.by_name("gptel"))
