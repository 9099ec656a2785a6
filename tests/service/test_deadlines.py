from __future__ import annotations

from thv_llm.service.deadlines import DRAIN_S, REFRESH_S, STOP_TIMEOUT_S
from thv_llm.tokens import renewal, source


def test_a_stop_has_time_for_running_streams_and_the_longest_refresh() -> None:
    assert STOP_TIMEOUT_S == DRAIN_S + REFRESH_S
    assert source.DEADLINE_S + renewal.RESCUE_S + sum(source.SAVE_PAUSES_S) < REFRESH_S
