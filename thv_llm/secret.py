"""A string that cannot be printed, formatted or pickled by accident, and is compared in constant time.

`reveal()` is the only way to the text, so every place a secret leaves the program can be
found by searching for that word.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Secret:
    """Hold one secret text. Its `str`, `repr` and format are `***`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def proof(self, question: str) -> str:
        """Return HMAC-SHA256(secret, question) in hexadecimal, which only a holder of the secret can."""
        import hmac

        return hmac.new(self._text.encode(), question.encode(), "sha256").hexdigest()

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time (for equal lengths) with another Secret."""
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac

        mine, theirs = (text.encode("utf-8", "surrogatepass") for text in (self._text, other._text))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
