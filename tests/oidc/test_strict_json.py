"""JSON from a server: one object, no name twice, no text of it in any error."""

from __future__ import annotations

import pytest

from thv_llm.oidc import strict_json


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1, "x", null, true]} \n', {"a": [1, "x", None, True]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "ü"}'.encode(), {"a": "ü"}),
        (b'{"a": {"b": 1}, "c": {"b": 2}}', {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_an_object_is_returned(data: bytes, value: object) -> None:
    assert strict_json.parse(data) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not JSON"),
        (b"{canary}", "is not JSON"),
        (b'{"a": canary', "is not JSON"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": -Infinity}', "is not JSON"),
        (b'{"a": 1} {"a": 2}', "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        ('{"a": "canary"}'.encode("utf-16"), "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'["canary"]', "is not a JSON object"),
        (b'"canary"', "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"a": 1, "a": 2}', "names the member 'a' twice"),
        (b'{"x": {"a": 1, "a": "canary"}}', "names the member 'a' twice"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
    ],
)
def test_anything_else_is_refused_with_the_reason_and_none_of_the_text(data: bytes, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict_json.parse(data)

    assert str(caught.value) == why
