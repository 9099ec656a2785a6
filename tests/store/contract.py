"""What every store must do. A store's own tests inherit `StoreContract` and give it a `store` fixture."""

from __future__ import annotations

import pytest

from thv_llm.secret import Secret
from thv_llm.store import SessionStore

KEY = "cli https://idp.example 0123456789abcdef"
SIZES = (1, 1200, 1300, 5000, 20000)


class StoreContract:
    """Promises of `thv_llm.store`, as tests."""

    def test_a_key_that_was_never_saved_is_absent(self, store: SessionStore) -> None:
        assert store.load(KEY) is None
        store.delete(KEY)

    @pytest.mark.parametrize("size", SIZES)
    def test_a_saved_secret_comes_back_whatever_its_size(self, store: SessionStore, size: int) -> None:
        value = Secret("r" * (size - 1) + "t")

        store.ready()
        store.save(KEY, value)

        assert store.load(KEY) == value

    def test_a_second_save_replaces_the_first(self, store: SessionStore) -> None:
        for text in ("rt-1", "rt-2", "r" * 9000, "rt-4"):
            store.save(KEY, Secret(text))

            found = store.load(KEY)
            assert found is not None
            assert found.reveal() == text

    def test_keys_do_not_touch_each_other(self, store: SessionStore) -> None:
        store.save("a", Secret("rt-a"))
        store.save("b", Secret("rt-b"))
        assert store.load("a") == Secret("rt-a")

        store.delete("a")

        assert store.load("a") is None
        assert store.load("b") == Secret("rt-b")
        store.delete("b")

    def test_a_deleted_secret_is_gone_and_can_come_back(self, store: SessionStore) -> None:
        store.save(KEY, Secret("rt-1"))

        store.delete(KEY)
        store.delete(KEY)
        assert store.load(KEY) is None

        store.save(KEY, Secret("rt-2"))
        assert store.load(KEY) == Secret("rt-2")

    def test_it_says_where_the_session_is_and_shows_nothing_of_it(self, store: SessionStore) -> None:
        store.save(KEY, Secret("rt-canary"))

        assert len(store.describe()) > 20
        assert store.name in ("file", "keyring", "secret-service")
        assert "canary" not in store.describe() + repr(store) + str(vars(store))
