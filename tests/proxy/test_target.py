"""No target leaves the gateway, or its base path."""

from __future__ import annotations

import pytest

from thv_llm.proxy import target
from thv_llm.proxy.http1 import Refused


@pytest.mark.parametrize(
    "given",
    [
        b"*",
        b"",
        b"evil.example:443",
        b"http://evil.example/",
        b"https://127.0.0.1:14000/v1/models",
        b"//evil.example/",
        b"@evil.example/x",
        b".evil.example/x",
        b"9/x",
        b"?key=x",
        b"\\evil.example",
        b"/\\evil.example",
        b"/a\\..\\b",
        b"/a#b",
        b"/a?b#c",
        b"/..",
        b"/../x",
        b"/v1/..",
        b"/v1/../../x",
        b"/./x",
        b"/v1/.",
        b"/%2e%2e/x",
        b"/.%2E/x",
        b"/%2e/x",
        b"/v1/..%2fx",
        b"/v1/%2e%2e%2fx",
        b"/v1/..%5cx",
        b"/..;/x",
        b"/..;a=b/x",
        b"/%2e%2e;/x",
        b"/v1/%252e%252e/x",
        b"/v1/..%252fx",
        b"/v1/%00",
        b"/v1/%0d%0aHost:x",
        b"/v1/%7f",
        b"/v1/%250a",
        b"/v1/%",
        b"/v1/%2",
        b"/v1/%zz",
        b"/v1/%2%65",
    ],
)
def test_a_target_that_could_lead_elsewhere_is_refused(given: bytes) -> None:
    with pytest.raises(Refused) as caught:
        target.parse(given)

    assert caught.value.status == 400


@pytest.mark.parametrize(
    "given",
    [
        b"/",
        b"/v1/chat/completions",
        b"/v1/models/meta-llama%2FLlama-4",
        b"/v1beta/models/gemini-3:streamGenerateContent?alt=sse",
        b"/v1/files/a..b/.hidden/...",
        b"/v1//double",
        b"/v1/a;b=c",
        b"/v1/search?q=../..%2f%zz&r=%0a",
        b"/v1/a?",
        b"/v1/a?b?c=/d",
        b"/v1/%E2%82%AC",
    ],
)
def test_a_good_target_passes_unchanged(given: bytes) -> None:
    assert target.at_gateway(b"/base", target.parse(given)) == b"/base" + given


@pytest.mark.parametrize(
    ("query", "left", "keys"),
    [
        (b"key=secret", None, (b"secret",)),
        (b"a=b&key=secret&c=d", b"a=b&c=d", (b"secret",)),
        (b"key=1&key=2", None, (b"1", b"2")),
        (b"%6bey=a%2Fb", None, (b"a/b",)),
        (b"%6B%65%79=x&alt=sse", b"alt=sse", (b"x",)),
        (b"key", None, (b"",)),
        (b"apikey=x&keys=y&monkey=z", b"apikey=x&keys=y&monkey=z", ()),
    ],
)
def test_the_key_never_stays_in_the_query(query: bytes, left: bytes | None, keys: tuple[bytes, ...]) -> None:
    assert target.parse(b"/p?" + query) == (b"/p", left, keys)


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("", b""),
        ("/", b""),
        ("/v1", b""),
        ("/v1/", b""),
        ("/team", b"/team"),
        ("/team/", b"/team"),
        ("/team/v1", b"/team"),
        ("/api/v10", b"/api/v10"),
        ("/v1beta", b"/v1beta"),
    ],
)
def test_v1_at_the_end_of_the_gateways_url_belongs_to_the_api(path: str, base: bytes) -> None:
    assert target.base_path(path) == base
