"""Each state of the table is planted; every command says what is so, and what it prints helps."""

from __future__ import annotations

import re

import pytest

from tests.states.site import site
from tests.states.table import ROWS, Row

COMMAND = re.compile(r"(?:thv-llm |chmod|unset|mv|sudo chown|export NO_PROXY=)(?:[^;,(]|,(?! ))*")


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[pytest.mark.root] if row.needs_root else []) for row in ROWS],
    ids=[f"{row.area}: {row.title}" for row in ROWS],
)
def test_what_is_wrong_is_named_and_the_printed_next_step_helps(row: Row) -> None:
    with site() as here:
        assert here.becomes_well() == []
        row.plant(here)

        for name, part in row.said.items():
            said = here.seen(name)
            assert part in said if part else not said or name != "token"
        values = row.values(here)
        filled = " ".join(values.get(word, word) for word in row.remedy.split(" "))
        printed = [line for line in here.next_steps if row.remedy in line or filled in line]
        assert printed, here.next_steps

        if row.others:
            row.others(here)
        begins = next(text for text in (row.remedy, filled, row.remedy.split(" ")[0]) if text in printed[0])
        command = COMMAND.search(printed[0][printed[0].index(begins) :])
        if command and "--client-id ID" not in filled:
            here.type(command[0], values)
        assert here.becomes_well() == []
