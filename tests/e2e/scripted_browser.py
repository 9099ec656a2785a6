"""A browser without a screen: follows redirects, keeps cookies, fills in and posts each form it meets.

    python3 scripted_browser.py CA_FILE URL     as $BROWSER; prints where it ended

Standard library only, and nothing of this project, so that it runs as a program of its own.
"""

from __future__ import annotations

import http.cookiejar
import ssl
import sys
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser

FILLED_IN = {"login": "dev", "password": "secret"}
MAX_FORMS = 12


@dataclass
class Form:
    """A form of a page, with the values that it would send."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(values.get("action", "")))
        elif tag == "input" and self.found and values.get("name"):
            name = values["name"]
            self.found[-1].fields[name] = FILLED_IN.get(name, values.get("value", ""))


@dataclass(frozen=True)
class Page:
    """Where a visit ended."""

    url: str
    text: str


class Browser:
    """Keep cookies from one visit to the next.

    Args:
        stops_at: do not follow a redirect to an address that begins so, but end there: a
            browser on another machine, where there is no listener at that address.
    """

    def __init__(self, ca_file: str, *, stops_at: str = "") -> None:
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
            _Redirects(stops_at),
        )

    def visit(self, url: str) -> Page:
        """Open a URL and go on until there is no form any more."""
        page = self._open(url, None)
        for _ in range(MAX_FORMS):
            parser = _Forms()
            parser.feed(page.text)
            if not parser.found:
                return page
            form = parser.found[0]
            body = urllib.parse.urlencode(form.fields).encode()
            page = self._open(urllib.parse.urljoin(page.url, form.action), body, page.url)
        raise RuntimeError(f"no end of forms at {page.url}")

    def refuse(self, url: str) -> Page:
        """Open a URL, and say no where it asks who you are."""
        return self._open(self._open(url, None).url + "/abort", None)

    def _open(self, url: str, body: bytes | None, referer: str = "") -> Page:
        asked = urllib.request.Request(url, body, {"Referer": referer} if referer else {})
        try:
            with self._opener.open(asked, timeout=20) as response:
                return Page(response.url, response.read().decode())
        except _Stopped as stop:
            return Page(stop.url, "")


class _Stopped(Exception):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, stops_at: str) -> None:
        self._stops_at = stops_at

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if self._stops_at and newurl.startswith(self._stops_at):
            fp.close()
            raise _Stopped(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


if __name__ == "__main__":
    print(Browser(sys.argv[1]).visit(sys.argv[2]).url)
