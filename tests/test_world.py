"""The outside of one run."""

from __future__ import annotations

import io
import os
import time

from thv_llm import paths, world


def test_answers_go_to_stdout_and_words_for_people_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    place = world.World({}, io.StringIO(), out, err, paths.find({"HOME": "/h"}))

    place.answer("42")
    place.say("thinking")

    assert (out.getvalue(), err.getvalue()) == ("42\n", "thinking\n")


def test_the_real_world_is_this_process() -> None:
    real = world.real()

    assert real.environ is os.environ
    assert abs(real.now() - time.time()) < 60
