"""The words of the field in what a user reads (messages, help, manual, README), in comments and docstrings.

Texts of the program are its string constants that have a space in them and are no docstring. What is matched
here has another word; which one stands beside it.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from thv_llm import cli

TOP = Path(__file__).parents[1]
INTERNAL = {"thv_llm/tools/model.py"}
"""Texts that only readers of the code see."""
WORDS = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"takes our token|refuses others": "accepts the token, rejects requests without one",
    r"\bgood for\b": "expires in, is valid for",
    r"\bsince \d+ (s|min|h)\b": "logged in … ago",
    r"names itself so": "reachable, issuer matches",
    r"\brefused by us\b|\bis ours\b": "rejected by the proxy, used by thv-llm",
    r"it should run and does not|cannot be done without": "not running; required by",
    r"these tools cannot work": "… will not work until you run …",
    r"not tried, since|can be had\b": "not tested",
    r"nobody listens": "connection refused by …",
    r"not trusted here": "that this machine does not trust",
    r"tell those who|if it stays": "contact your administrator; if the problem persists",
    r"\bLeft out\b": "Skipped …, Without …",
    r"Deleted the session|There was no session": "Logged out. Not logged in.",
    r"\bGo on\?": "Continue?",
    r"\bhalf within\b": "p50 … ms",
    r"the system refused": "cannot write to …, the system returned an error",
    r"the old service goes on": "the running service keeps working",
    r"everything for people": "messages",
    r"the first use says": "on first use, tools show an error that asks to run",
    r"a provider that answers|answers? (HTTP )?[45]\d\d": "a provider that returns HTTP …",
    r"does not answer|process answers|(streamed|long|an|static) answers?\b|\banswers? (back|the)": "response",
    r"\band alike\b": "and similar providers",
    r"in its window only": "only in its user interface",
    r"\b(whoever|somebody|someone|nobody|anybody|those who|the person)\b": "user, caller, administrator",
    r"\b(has|have) to\b|\bmay\b": "must, can",
    r"\b(un)?wired\b": "configured",
    r"\b(besides|for|of|by|to) us\b": "thv-llm",
}

PROSE = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(whoever|somebody|someone|nobody|anybody|everybody|those who)\b": "user, caller, process, client",
    r"\b(the|a) persons?\b": "user",
    r"\bstrangers?\b": "foreign process, attacker",
    r"\b(has|have|had) to\b|\b[Mm]ay\b": "must, can",
    r"\b(replies|replied|reply)\b": "response",
    r"\banswer(s|ed|ing)?\b": "response, respond, serve, return; a user answers",
    r"\b(is|are|was|has|have) gone\b": "ended, missing, removed, disconnected",
    r"colour|behaviour|honour|favour|licence|(recogni|organi|seriali|optimi)s[ei]": "American spelling",
}
ALLOWED = (
    r"\buser\w* answers?\b",
    r"answers? (no|the) questions?",
    r"\b(otherw|likew|prec|ra|no|prom|exerc|pract)ise",
)
"""A user answers a question; words that only look British."""


def docstrings(tree: ast.AST) -> set[int]:
    """Return every constant that stands alone: docstrings, and those of attributes."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text with its place."""
    for path in sorted((TOP / "thv_llm").rglob("*.py")):
        name = str(path.relative_to(TOP))
        tree = ast.parse(path.read_text())
        silent = docstrings(tree)
        for node in ast.walk(tree):
            is_said = isinstance(node, ast.Constant) and id(node) not in silent and name not in INTERNAL
            if is_said and " " in (text := str(ast.literal_eval(node))):
                yield f"{name}:{getattr(node, 'lineno', 0)}", text
    examples = TOP / "thv_llm" / "commands" / "texts" / "examples.txt"
    for page in (TOP / "README.md", examples, *sorted((TOP / "thv_llm" / "manual").glob("*.md"))):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            yield f"{page.relative_to(TOP)}:{number}", re.sub(r"`\{.*\}`", "", line)  # names in JSON stay
    for verb in cli.VERBS:
        parser = cli.build_parser(verb)
        yield f"thv-llm {verb} --help", parser.format_help()


def prose() -> Iterator[tuple[str, str]]:
    """Yield each line of a comment or a docstring with its place."""
    for path in sorted((TOP / "thv_llm").rglob("*.py")):
        name, source = str(path.relative_to(TOP)), path.read_text()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield f"{name}:{token.start[0]}", token.string
        tree = ast.parse(source)
        silent = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) in silent:
                for number, line in enumerate(node.value.splitlines(), node.lineno):
                    yield f"{name}:{number}", line


@pytest.fixture(scope="module")
def all_prose() -> list[tuple[str, str]]:
    return [(place, re.sub("|".join(ALLOWED), "", line)) for place, line in prose()]


@pytest.mark.parametrize("pattern", PROSE)
def test_comments_and_docstrings_use_them_too(all_prose: list[tuple[str, str]], pattern: str) -> None:
    found = [f"{place}: {line.strip()}" for place, line in all_prose if re.search(pattern, line)]

    assert not found, f"say: {PROSE[pattern]}\n" + "\n".join(found)


@pytest.fixture(scope="module")
def all_texts() -> list[tuple[str, str]]:
    return list(texts())


@pytest.mark.parametrize("pattern", WORDS)
def test_every_text_uses_the_words_of_the_field(all_texts: list[tuple[str, str]], pattern: str) -> None:
    found = [f"{place}: {text.strip()[:100]!r}" for place, text in all_texts if re.search(pattern, text)]

    assert not found, f"say: {WORDS[pattern]}\n" + "\n".join(found)


def test_each_pattern_would_be_found(all_texts: list[tuple[str, str]]) -> None:
    assert len(all_texts) > 1000
    for pattern, text in (
        (r"\b(has|have) to\b|\bmay\b", "it may be"),
        (r"\b(un)?wired\b", "no tool is wired"),
        (r"\bmend(s|ed|ing)?\b", "what mends it"),
    ):
        assert pattern in WORDS
        assert re.search(pattern, text)


def test_each_pattern_would_be_found_in_comments(all_prose: list[tuple[str, str]]) -> None:
    assert len(all_prose) > 3000
    said = "what mends it, whoever asks; a person, a stranger: has to reply; the answer is gone; behaviour"
    assert [pattern for pattern in PROSE if not re.search(pattern, said)] == []
