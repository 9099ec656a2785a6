"""Browsers: one that follows the redirects of a login, one that must never be opened.

    with FakeBrowser(provider.ca_file) as browser:
        login(..., interaction=Interaction(say=…, open_browser=browser.open))
    assert "Logged in" in browser.page

It knows no form and no script; for those there is Chromium in the tests of the whole.
"""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from types import TracebackType
from typing import Self

TIMEOUT_S = 20.0


class FakeBrowser:
    """Open each URL in a thread, following redirects; joined when the context ends.

    Args:
        before: paths to visit at the callback's host before the callback itself, such as
            `/favicon.ico` (they stand for any other request).
        visits: how many times it goes to each URL, one after the other.

    Attributes:
        urls: what it was asked to open.
        page, status, headers: of the page at which it ended last.
        statuses: of each visit.
        strays: status of each visit of `before`.
        errors: what kept it from a page.
    """

    def __init__(self, ca_file: str = "", *, before: tuple[str, ...] = (), visits: int = 1) -> None:
        self.urls: list[str] = []
        self.page = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.statuses: list[int] = []
        self.strays: list[int] = []
        self._visits = visits
        self.errors: list[Exception] = []
        context = ssl.create_default_context(cafile=ca_file or None)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _Redirects(self, before),
        )
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.join()

    def open(self, url: str) -> bool:
        """Visit a URL, in the background as real browsers do."""
        self.urls.append(url)
        thread = threading.Thread(target=self._visit, args=(url,), name="fake-browser")
        thread.start()
        self._threads.append(thread)
        return True

    def join(self) -> None:
        """Wait until every visit has ended."""
        for thread in self._threads:
            thread.join()

    def _visit(self, url: str) -> None:
        try:
            for _ in range(self._visits):
                self.status, self.page, self.headers = self.fetch(url)
                self.statuses.append(self.status)
        except OSError as error:
            self.errors.append(error)

    def fetch(self, url: str) -> tuple[int, str, dict[str, str]]:
        """Return status, text and headers of a page, redirects followed."""
        try:
            response = self._opener.open(url, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, response.read().decode(), headers


def where_it_ends(url: str, ca_file: str) -> str:
    """Return the address at which a browser on another machine would end: the first redirect's."""
    context = ssl.create_default_context(cafile=ca_file)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects())
    try:
        opener.open(url, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["Location"])
    raise AssertionError("there was no redirect")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        """Follow none."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects; once at a loopback callback, make the detours first."""

    max_redirections = 20

    def __init__(self, browser: FakeBrowser, before: tuple[str, ...]) -> None:
        self._browser = browser
        self._before = before

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if "/callback?" in newurl:
            there = newurl.split("/callback?")[0]
            for path in self._before:
                self._browser.strays.append(self._browser.fetch(there + path)[0])
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def no_browser(url: str) -> bool:
    """Fail: no browser must be opened here."""
    raise AssertionError(f"a browser was opened: {url}")


def broken_browser(url: str) -> bool:
    """Say that no browser could be started."""
    return False


if __name__ == "__main__":  # as $BROWSER of a demonstration or a test
    import sys

    from tests.fakes.web import CA_FILE

    FakeBrowser(CA_FILE).fetch(sys.argv[1])
