from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jeepney.low_level import Endianness, parse_signature

from tests.fakes.secret_service import FakeSecretService
from thv_llm.store.dbus import Connection, DBusError, packed, types, unpacked

EXAMPLES: list[tuple[str, tuple[Any, ...]]] = [
    ("", ()),
    ("s", ("ünïcødé",)),
    ("ybuo", (1, True, 70000, "/org/freedesktop")),
    ("sv", ("plain", ("s", ""))),
    ("a{ss}", ({"service": "thv-llm", "username": "a"},)),
    ("aoao", (["/a"], ["/b", "/c/d"])),
    ("(oayays)", (("/session/1", b"", b"rt-1", "text/plain"),)),
    ("a{sv}(oayays)b", ({"L": ("s", "x"), "A": ("a{ss}", {"k": "v"})}, ("/s", b"i", b"v", "t"), False)),
    ("a(yv)", ([(1, ("o", "/a")), (8, ("g", "sv"))],)),
    ("yax", (7, [1, 2**40])),
]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def by_jeepney(signature: str, values: tuple[Any, ...]) -> bytes:
    if not signature:
        return b""
    kind = parse_signature(list(f"({signature})"))
    return bytes(kind.serialise(values, 0, Endianness.little))


@pytest.mark.parametrize(("signature", "values"), EXAMPLES)
def test_values_go_over_the_wire_as_jeepney_sends_them_and_come_back(
    signature: str, values: tuple[Any, ...]
) -> None:
    data = packed(signature, values)

    assert data == by_jeepney(signature, values)
    assert unpacked(signature, data, "little") == (values, len(data))


@given(st.dictionaries(TEXT, TEXT), st.lists(TEXT), st.integers(0, 2**32 - 1), st.binary(max_size=30))
def test_any_values_go_over_the_wire_as_jeepney_sends_them(
    table: dict[str, str], texts: list[str], number: int, data: bytes
) -> None:
    values = (table, texts, number, data)

    assert packed("a{ss}asuay", values) == by_jeepney("a{ss}asuay", values)
    assert unpacked("a{ss}asuay", packed("a{ss}asuay", values), "little")[0] == values


@given(
    st.binary(max_size=60), st.sampled_from(["a{sv}", "av", "a(yv)", "ssg", "(oayays)", "a()", "vv", "aax"])
)
def test_nonsense_is_a_value_error_and_ends(data: bytes, signature: str) -> None:
    for order in ("little", "big"):
        with contextlib.suppress(ValueError):
            unpacked(signature, data, order)


def test_a_signature_is_split_into_complete_types() -> None:
    assert list(types("sa{sv}a(oay)(i(su))as")) == ["s", "a{sv}", "a(oay)", "(i(su))", "as"]


def test_an_error_has_the_name_that_the_other_side_gave_it(tmp_path: Path) -> None:
    with FakeSecretService(tmp_path, error_at={"ReadAlias": "org.example.No"}) as bus:
        connection = Connection(str(bus.directory / "bus"), 5)
        with pytest.raises(DBusError, match=r"org\.example\.No"):
            connection.call("org.freedesktop.secrets", "/x", "i.f", "ReadAlias", "s", "default")
        assert connection.call("org.freedesktop.secrets", "/x", "i.f", "Unlock", "ao", [])[1] == "/"
        connection.close()


@pytest.mark.parametrize(
    "answer", [b"", b"REJECTED EXTERNAL\r\n", b"OK 0123\r\nnonsense that is no message at all"]
)
def test_what_is_no_bus_is_an_error_in_time(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "bus")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            visitor, _ = listener.accept()
            with visitor:
                visitor.recv(1000)
                visitor.sendall(answer)
                if not answer:
                    time.sleep(0.2)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises((OSError, ValueError)):
            Connection(path, 0.1)
        thread.join()
