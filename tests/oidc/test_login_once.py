"""Two logins at once on one machine: one is done, both end with it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import environs
from tests.fakes.browser import no_browser
from thv_llm.errors import ThvLlmError
from thv_llm.oidc.interaction import Interaction
from thv_llm.oidc.login import one_at_a_time

URL = "https://idp.example/authorize?state=s&code_challenge=c"


def nothing(interaction: Interaction) -> str:
    raise AssertionError("this login must not be performed")


class Holder:
    """A first login that is under way until it is told to end."""

    def __init__(self, lock_path: str, *, fails: bool = False) -> None:
        self.says_go = threading.Event()
        self.is_at_it = threading.Event()
        self.result: str | None = None
        self._fails = fails
        self._lock_path = lock_path
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.is_at_it.wait(5)

    def _run(self) -> None:
        interaction = Interaction(lambda line: None, no_browser)
        try:
            one_at_a_time(self._lock_path, self._perform, interaction=interaction, already=lambda: None)
        except ThvLlmError:
            assert self._fails

    def _perform(self, interaction: Interaction) -> str:
        interaction.announce(URL)
        self.is_at_it.set()
        assert self.says_go.wait(5)
        if self._fails:
            raise ThvLlmError("the login failed")
        self.result = "first"
        return self.result

    def join(self) -> None:
        self.says_go.set()
        self._thread.join()


@pytest.fixture
def lock_path(tmp_path: Path) -> str:
    return str(tmp_path / "toolhive" / "llm-login.lock")


def ending_after(holder: Holder, seconds: list[float]) -> Callable[[float], None]:
    """Return a `sleep` during which the first login ends."""

    def sleep(duration_s: float) -> None:
        seconds.append(duration_s)
        if len(seconds) == 3:
            holder.join()
        time.sleep(0.001)

    return sleep


def test_a_login_alone_is_simply_performed(lock_path: str) -> None:
    said: list[str] = []
    interaction = Interaction(said.append, no_browser)
    result = one_at_a_time(lock_path, lambda _: "result", interaction=interaction, already=lambda: "other")

    assert result == "result"
    assert said == []


def test_a_second_login_shows_the_url_of_the_first_and_ends_with_it(lock_path: str) -> None:
    said: list[str] = []
    slept: list[float] = []
    holder = Holder(lock_path)
    interaction = Interaction(said.append, no_browser, sleep=ending_after(holder, slept))
    result = one_at_a_time(lock_path, nothing, interaction=interaction, already=lambda: holder.result)

    assert result == "first"
    assert "".join(said).count(URL) == 1
    assert said[0] == "Another login is under way on this machine; waiting for it."
    assert len(slept) >= 3


def test_when_the_first_fails_the_second_takes_over(lock_path: str) -> None:
    holder = Holder(lock_path, fails=True)
    interaction = Interaction(lambda line: None, no_browser, sleep=ending_after(holder, []))
    result = one_at_a_time(lock_path, lambda _: "second", interaction=interaction, already=lambda: None)

    assert result == "second"


def test_the_wait_for_the_first_has_an_end(lock_path: str) -> None:
    holder = Holder(lock_path)
    try:
        with pytest.raises(ThvLlmError, match="another login is under way"):
            one_at_a_time(
                lock_path,
                nothing,
                interaction=Interaction(lambda line: None, no_browser, sleep=lambda s: None),
                already=lambda: None,
                wait_s=0.0,
            )
    finally:
        holder.join()


def test_the_url_is_for_this_user_only_and_is_gone_afterwards(lock_path: str) -> None:
    url_path = lock_path.replace(".lock", ".url")
    old = os.umask(0)
    try:
        holder = Holder(lock_path)
        is_private = environs.is_private(url_path)
        holder.join()
    finally:
        os.umask(old)

    assert is_private
    assert not os.path.exists(url_path)


def test_the_url_of_a_login_that_was_killed_is_not_shown(lock_path: str) -> None:
    os.makedirs(os.path.dirname(lock_path), mode=0o700)
    url_path = lock_path.replace(".lock", ".url")
    Path(url_path).write_text("https://old.example/")

    seen: list[bool] = []
    one_at_a_time(
        lock_path,
        lambda _: seen.append(os.path.exists(url_path)),
        interaction=Interaction(lambda line: None, no_browser),
        already=lambda: None,
    )

    assert seen == [False]


def test_a_url_with_control_bytes_is_not_shown(lock_path: str) -> None:
    said: list[str] = []
    holder = Holder(lock_path)
    Path(lock_path.replace(".lock", ".url")).write_bytes(b"https://x/\x1b[2J\xff")
    interaction = Interaction(said.append, no_browser, sleep=ending_after(holder, []))
    one_at_a_time(lock_path, nothing, interaction=interaction, already=lambda: holder.result)

    assert not any("https://x/" in line for line in said)


def test_a_lock_that_cannot_be_made_is_an_error_not_a_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ThvLlmError, match=r"cannot|directory"):
        one_at_a_time(
            str(tmp_path / "file" / "llm-login.lock"),
            nothing,
            interaction=Interaction(lambda line: None, no_browser),
            already=lambda: None,
        )


def test_a_url_is_announced_further_up_too(lock_path: str) -> None:
    heard: list[str] = []
    interaction = Interaction(lambda line: None, no_browser, announce=heard.append)
    one_at_a_time(lock_path, lambda inner: inner.announce(URL), interaction=interaction, already=lambda: None)

    assert heard == [URL]
