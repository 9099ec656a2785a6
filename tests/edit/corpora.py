"""Public test data, beside the checkout or in `tests/data`."""

from __future__ import annotations

from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PLACES = (TOP.parent / "shared" / "corpora", TOP / "tests" / "data")


def corpus(name: str) -> Path:
    """Return the directory of a corpus; it has to be there."""
    for place in PLACES:
        if (place / name).is_dir():
            return place / name
    raise FileNotFoundError(f"no {name} in {', '.join(map(str, PLACES))}")


def json_suite() -> list[Path]:
    """Return the parsing tests of JSONTestSuite."""
    return sorted((corpus("JSONTestSuite") / "test_parsing").glob("*.json"))


def toml_suite() -> list[Path]:
    """Return the tests of toml-test for TOML 1.0.0."""
    tests = corpus("toml-test") / "tests"
    names = (tests / "files-toml-1.0.0").read_text().split()
    return sorted(tests / name for name in names if name.endswith(".toml"))
