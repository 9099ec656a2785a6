"""JSON objects from a server that may be broken or hostile.

An object with one name twice is refused: two readers could take different values from it.
Reasons given never contain any of the text.

Pure.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

JsonObject = dict[str, Any]


def parse(data: bytes) -> JsonObject:
    """Return the one JSON object that `data` is.

    Raises:
        ValueError: with the reason in words, such as "names the member 'iss' twice".

    Source: RFC 8259 (section 4 on duplicate names, section 8.1 on UTF-8).
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_such_number
        )
    except _DuplicateError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:  # not UTF-8, not JSON, a number of thousands of digits
        raise ValueError("is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


class _DuplicateError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found: JsonObject = {}
    for name, value in pairs:
        if name in found:
            raise _DuplicateError(f"names the member {name[:40]!r} twice")
        found[name] = value
    return found


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(name)
