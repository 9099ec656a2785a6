"""The page in the browser: safe whatever is in it, and complete without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from thv_llm.oidc import loopback

EVIL = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
PAGES = {
    "success": loopback.success_page(EVIL),
    "failure": loopback.failure_page(EVIL, EVIL),
    "failure with a command": loopback.failure_page(EVIL, f"thv-llm login {EVIL}"),
    "stray": loopback.stray_page(),
}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "div", "svg", "path"),
    *("h1", "p", "strong", "code", "footer"),
}


class Reader(HTMLParser):
    """Collect tags, attributes and text."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.style = ""
        self.feed(data.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags[-1] == "style" and not self.style:
            self.style = data
        else:
            self.text += data


@pytest.mark.parametrize("name", PAGES)
def test_nothing_that_is_shown_can_become_markup(name: str) -> None:
    reader = Reader(PAGES[name])

    assert set(reader.tags) <= ALLOWED
    assert not any(attribute.startswith("on") for attribute, _ in reader.attributes)
    assert not {"src", "href", "action"} & {attribute for attribute, _ in reader.attributes}
    assert name == "stray" or EVIL in reader.text


@pytest.mark.parametrize("name", PAGES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    assert not re.search(rb"https?:|url\(|@import|//", PAGES[name])


def test_the_policy_allows_exactly_our_style_sheet() -> None:
    headers = dict(loopback.HEADERS)
    policy = headers["Content-Security-Policy"]
    digest = hashlib.sha256(Reader(loopback.stray_page()).style.encode()).digest()

    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_success_names_the_gateway_and_lets_the_window_be_closed() -> None:
    text = Reader(loopback.success_page("llm.example.com")).text

    assert "Logged in" in text
    assert "llm.example.com" in text
    assert "You can close this window." in text


def test_failure_says_what_happened_and_what_to_do() -> None:
    reader = Reader(loopback.failure_page("the code was refused", "thv-llm login"))

    assert "The code was refused." in reader.text
    assert "What to do: run thv-llm login" in reader.text
    assert "code" in reader.tags
    assert "What to do" not in Reader(loopback.failure_page("it broke", "")).text


def test_it_is_made_for_light_and_dark() -> None:
    style = Reader(loopback.stray_page()).style

    assert "color-scheme:light dark" in style
    assert "prefers-color-scheme:dark" in style
