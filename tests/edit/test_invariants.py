"""The promises of the editors, on generated documents (THV_LLM_EXAMPLES of each format)."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edit import generate
from tests.edit.invariants import check_invariants
from thv_llm.edit import Format

EXAMPLES = int(os.environ.get("THV_LLM_EXAMPLES", "200"))


@pytest.mark.parametrize("format", Format)
def test_every_generated_document_keeps_its_bytes_and_gets_them_back(format: Format) -> None:
    accepted = 0
    for seed in range(EXAMPLES):
        rng = random.Random(seed)
        text = generate.text(format, rng)
        try:
            accepted += check_invariants(format, text, rng)
        except BaseException:
            print(f"seed {seed}, text {text!r}")
            raise
    assert accepted > EXAMPLES * 0.3


@pytest.mark.parametrize("format", Format)
@given(data=st.data())
@settings(max_examples=EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_invariants_hold_for_whatever_hypothesis_thinks_of(format: Format, data: st.DataObject) -> None:
    rng = data.draw(st.randoms(use_true_random=False))
    text = generate.text(format, rng)
    if data.draw(st.booleans()):
        text = data.draw(st.text(alphabet="ab{}[]\",:=#/*-|'\\\n\r\t \ufeff\u2028\x00é.1", max_size=40))
    check_invariants(format, text, rng)
