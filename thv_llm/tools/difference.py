"""What a run would change, as a unified diff that can be shown to anyone.

A settings file may hold keys of the user's, in lines of context as well as in changed ones,
so every value that looks like a secret is masked, whoever's it is: by the name before it in
its line, by its well-known shape, or because it is our own local key.

Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from thv_llm.secret import Secret

MASK = "***"

_SECRET_NAME = (
    r"api[-_]?key|token|secret|password|passwd|passphrase|credential|authorization|bearer|cookie|session"
    r"|keys?(?![\w.-])"
)
# A line may be long: no word is tried from each of its letters, and what a repetition gives back
# nothing else can take.
_NAMED = re.compile(
    rf"""(?ix)
    ((?<![\w.-]) (?=[\w.-]*?(?:{_SECRET_NAME})) [\w.-]+ ["']? \s* [:=] \s*)  # the name of the value
    (?: "(?!"") ([^"\\]*(?:\\.[^"\\]*)*) "
      | '(?!'') ([^']*) '
      | (["'].*)  # ends in another line
      | ((?:(?:bearer|basic)\ +|(?!(?:bearer|basic)\ ))  # bare
         [^\s"'\[{{,}}\]] (?:[^\s,}}\]]|[,}}\]]+(?![\s"',}}\]]|$))*)
    )
    """
)
_SHAPED = re.compile(
    r"(?:\bthv-[A-Za-z0-9_-]{40,}|\b(?:sk|pk|rk|gh[opsu]|github_pat|glpat|xox[abprs]|AIza|AKIA|eyJ)[-_A-Za-z0-9]{12}[-_.A-Za-z0-9]*"
    r"|(?<=Bearer )[^\s\"']+"
    r"|(?<=://)[^\s/:@\"']*:[^\s/@\"']+(?=@))"
)
_PLAIN_VALUE = re.compile(r"true|false|null|~|[0-9_.]{1,8}", re.IGNORECASE)
"""Values of such names that are no secrets: switches, numbers of seconds or tokens."""


def unified(
    before: bytes | None, after: bytes | None, path: str, *, local_key: Secret, public: Iterable[str] = ()
) -> str:
    """Return the masked diff of one file; None = no file.

    Args:
        public: texts of ours that are no secret, whatever the name of their key (the helper's path).
    """
    names = ("/dev/null" if before is None else path, "/dev/null" if after is None else path)
    lines = difflib.unified_diff(_lines(before), _lines(after), *names, lineterm="")
    known = frozenset(public)
    return "".join(masked(line, local_key=local_key, public=known) + "\n" for line in lines)


def masked(line: str, *, local_key: Secret, public: frozenset[str] = frozenset()) -> str:
    """Return one line of a settings file without secrets."""
    if local_key:
        line = line.replace(local_key.reveal(), MASK)
    return _SHAPED.sub(MASK, _NAMED.sub(lambda found: _hidden(found, public), line))


def _hidden(found: re.Match[str], public: frozenset[str]) -> str:
    value = next(filter(None, found.groups()[1:]), "")
    if not value or value in public or _PLAIN_VALUE.fullmatch(value):
        return found[0]
    return found[1] + found[0][len(found[1]) :].replace(value, MASK)


def _lines(data: bytes | None) -> list[str]:
    """Split a file into lines that a terminal can show; a missing end of the last one is told."""
    *lines, last = (data or b"").decode("utf-8", "replace").split("\n")
    shown = [_printable(line.removesuffix("\r")) for line in lines]
    return [*shown, _printable(last) + "\n\\ No newline at end of file"] if last else shown


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line)
