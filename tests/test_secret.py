from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import pytest

from thv_llm.secret import Secret

CANARY = "canary-7f3a"


def test_no_usual_way_of_showing_it_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    logging.getLogger("test").error("%s %r", secret, [secret])

    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>40}",
        f"{secret:.3}",
        "%s" % secret,  # noqa: UP031 - the old way must not show it either
        str({1: secret}),
    ]

    assert CANARY not in "".join(shown) + caplog.text
    assert "***" in shown


def test_a_traceback_does_not_show_it() -> None:
    error = ValueError(Secret(CANARY))

    assert CANARY not in "".join(traceback.format_exception(error))


def test_it_does_not_leave_the_program_by_accident() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(CANARY))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(CANARY))
    with pytest.raises(TypeError):
        json.dumps({"token": Secret(CANARY)})
    with pytest.raises(TypeError):
        vars(Secret(CANARY))


def test_only_reveal_gives_it_away() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_it_equals_a_secret_of_the_same_text_and_never_a_plain_string() -> None:
    assert Secret("ü") == Secret("ü")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("\udcff") != Secret("\ud800")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_an_empty_one_is_false() -> None:
    assert not Secret("")
    assert Secret(" ")
