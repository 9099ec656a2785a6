"""Public test data, as its authors publish it: each corpus in a zip file with its license, in `tests/data`.

JSONTestSuite (nst), toml-test (toml-lang; those for TOML 1.0.0), Wycheproof (C2SP).
"""

from __future__ import annotations

import functools
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Sample:
    """One file of a corpus."""

    path: str
    data: bytes

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def text(self) -> str | None:
        """Its text; None when it is no UTF-8, which is refused before an editor sees it."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            return None


@functools.cache
def _corpus(name: str) -> list[Sample]:
    with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
        return [Sample(path, archive.read(path)) for path in sorted(archive.namelist())]


def json_suite() -> list[Sample]:
    """Return the parsing tests of JSONTestSuite."""
    return [sample for sample in _corpus("JSONTestSuite") if sample.name.endswith(".json")]


def toml_suite() -> list[Sample]:
    """Return the documents of toml-test."""
    return [sample for sample in _corpus("toml-test") if sample.name.endswith(".toml")]


def wycheproof(name: str) -> list[dict[str, Any]]:
    """Return the groups of test vectors of one algorithm."""
    found = next(sample for sample in _corpus("wycheproof") if sample.name == f"{name}_test.json")
    groups: list[dict[str, Any]] = json.loads(found.data)["testGroups"]
    return groups
