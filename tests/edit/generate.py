"""Random settings files in every layout that people and programs give them."""

from __future__ import annotations

import json
import random

from tests.edit.invariants import NAMES, TOML_NAMES
from thv_llm.edit import Format

EOLS = ("\n", "\r\n")
STRINGS = (
    "v",
    "",
    "// no",
    "/* no",
    "# no",
    '{"a":1}',
    "é\U0001f600",
    "x/y",
    "[a]\nb = 1",
    "'''",
    '"""',
    "- :",
)


def text(format: Format, rng: random.Random) -> str:
    """Return a valid text, or now and then a damaged one."""
    made = MAKERS[format](rng, format)
    if rng.random() < 0.1:
        made = damaged(made, rng)
    return ("\ufeff" if rng.random() < 0.1 else "") + made


def damaged(made: str, rng: random.Random) -> str:
    """Return a text with some characters more, less or other."""
    characters = list(made)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(characters) + 1)
        characters[place : place + rng.randint(0, 2)] = rng.choice(["", *"\"'{}[],:=#/*-\n\r\t \\\x00"])
    return "".join(characters)


class _Json:
    def __init__(self, rng: random.Random, format: Format) -> None:
        self.rng = rng
        self.format = format
        self.eol = rng.choice(EOLS)
        self.unit = rng.choice(("  ", "    ", "\t", " ", ""))
        self.style = rng.choice(("lines", "lines", "inline", "compact", "wild"))

    def document(self) -> str:
        kind = self.rng.random()
        if kind < 0.05:
            return self.space(0)
        body = self.array(0) if kind < 0.1 else self.object(0)
        return self.space(0) + body + self.space(0, last=True)

    def space(self, depth: int, *, last: bool = False) -> str:
        """White space and comments that can stand between two tokens."""
        pieces = []
        while self.rng.random() < (0.5 if self.style == "wild" else 0.08):
            pieces.append(self.rng.choice((" ", "\t", self.eol, self.eol + self.unit * depth)))
            if self.format is not Format.JSON and self.rng.random() < 0.4:
                end = "" if last and self.rng.random() < 0.3 else self.eol
                pieces.append(self.rng.choice(("/* c, } */", "/**/", f'// c "{end}', f"//{end}")))
                if not end:
                    break
        return "".join(pieces)

    def break_(self, depth: int) -> str:
        if self.style == "lines":
            return self.eol + self.unit * depth
        return " " if self.style == "inline" else ""

    def value(self, depth: int) -> str:
        kind = self.rng.random()
        if depth < 4 and kind < 0.25:
            return self.object(depth)
        if depth < 4 and kind < 0.4:
            return self.array(depth)
        if kind < 0.6:
            return self.string(self.rng.choice(STRINGS))
        return self.rng.choice(
            ("null", "true", "0", "-1.50e+2", "1E400", '"\\ud800"', '"x/y"', "123456789012345678901")
        )

    def string(self, value: str) -> str:
        return json.dumps(value, ensure_ascii=self.rng.random() < 0.5)

    def object(self, depth: int) -> str:
        names = [self.rng.choice(NAMES) for _ in range(self.rng.randint(0, 4))]
        if self.rng.random() < 0.9:
            names = list(dict.fromkeys(names))
        colon = ":" if self.style == "compact" else ": "
        return self.container("{}", depth, [self.string(name) + self.space(depth) + colon for name in names])

    def array(self, depth: int) -> str:
        if self.rng.random() < 0.3:
            return self.container(
                "[]", depth, ["", '{"id": "x/y"}, '] if self.rng.random() < 0.5 else ["", ""]
            )
        return self.container("[]", depth, [""] * self.rng.randint(0, 3))

    def container(self, marks: str, depth: int, heads: list[str]) -> str:
        entries = [
            self.break_(depth + 1)
            + self.space(depth + 1)
            + head
            + self.space(depth + 1)
            + self.value(depth + 1)
            for head in heads
        ]
        body = ("," if self.style != "wild" else self.space(depth) + ",").join(entries)
        if entries and self.format is Format.JSONC_TRAILING and self.rng.random() < 0.4:
            body += self.space(depth) + ","
        if entries or self.rng.random() < 0.3:
            body += self.break_(depth)
        return marks[0] + body + self.space(depth) + marks[1]


def _json(rng: random.Random, format: Format) -> str:
    return _Json(rng, format).document()


class _Toml:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.eol = rng.choice(EOLS)

    def document(self) -> str:
        lines: list[str] = []
        self.pairs(lines)
        for _ in range(self.rng.randint(0, 4)):
            self.noise(lines)
            path = ".".join(self.name() for _ in range(self.rng.randint(1, 3)))
            lines.append(f"[[{path}]]" if self.rng.random() < 0.3 else f"[ {path} ] # c")
            if lines[-1].startswith("[[") and self.rng.random() < 0.5:
                lines.append("id = 'x\"]y'")
            self.pairs(lines)
        self.noise(lines)
        return self.eol.join(lines) + self.eol * self.rng.randint(0, 2)

    def noise(self, lines: list[str]) -> None:
        while self.rng.random() < 0.4:
            lines.append(self.rng.choice(("", "  ", "# c [x]", "\t# a = 1", "#")))

    def pairs(self, lines: list[str]) -> None:
        for _ in range(self.rng.randint(0, 3)):
            self.noise(lines)
            key = " . ".join(self.name() for _ in range(self.rng.choice((1, 1, 1, 2, 3))))
            end = self.rng.choice(("", "", " # c", "\t"))
            lines.append(f"{self.rng.choice(('', '', '  '))}{key} = {self.value(0)}{end}")

    def name(self) -> str:
        name = self.rng.choice(TOML_NAMES)
        if name.isascii() and name.isalnum() and self.rng.random() < 0.8:
            return name
        return f"'{name}'" if self.rng.random() < 0.4 else json.dumps(name)

    def value(self, depth: int) -> str:
        kind = self.rng.random()
        if depth < 3 and kind < 0.15:
            names = dict.fromkeys(self.name() for _ in range(self.rng.randint(0, 3)))
            pairs = [f"{name}={self.value(depth + 1)}" for name in names]
            return self.rng.choice(("{ %s }", "{%s}")) % self.rng.choice((", ", ",", " , ")).join(pairs)
        if depth < 3 and kind < 0.3:
            return self.array(depth)
        if kind < 0.5:
            return json.dumps(self.rng.choice(STRINGS))
        return self.rng.choice(SCALAR_TEXTS).replace("\n", self.eol)

    def array(self, depth: int) -> str:
        items = [self.value(depth + 1) for _ in range(self.rng.randint(0, 3))]
        space = self.rng.choice(("", " ", self.eol + "  ", f" # ] c{self.eol} "))
        comma = "," if items and self.rng.random() < 0.3 else ""
        return "[" + space + f"{space},{space}".join(items) + comma + space + "]"


SCALAR_TEXTS = (
    "1",
    "-0.5e3",
    "true",
    "nan",
    "-inf",
    "0xff_ff",
    "1979-05-27 07:32:00Z",
    "1979-05-27",
    "07:32:00.5",
    "'[x] # '",
    '"""\n[t]\na = 1\n"\\\\""""',
    "'''\n# x\n[[t]]'\n'''",
    '"""a""\\"""""',
    '"\\u00e9\\"]"',
    "''",
)


def _toml(rng: random.Random, format: Format) -> str:
    return _Toml(rng).document()


def _dotenv(rng: random.Random, format: Format) -> str:
    eol = rng.choice(EOLS)
    lines = [rng.choice(DOTENV_LINES) for _ in range(rng.randint(0, 6))]
    return eol.join(lines) + eol * rng.randint(0, 2)


DOTENV_LINES = (
    "A=1",
    "A = 'two words' # c",
    'export B="x\ny"',
    "B=`q`",
    "GEMINI_API_KEY=",
    "GEMINI_API_KEY= # c",
    "GEMINI_API_KEY: old",
    "  C_1=a#b",
    "# A=no",
    "not an assignment",
    'X="never closed',
    "X='",
    "",
    "  ",
    "a.b-c=1",
)


def _yaml(rng: random.Random, format: Format) -> str:
    eol = rng.choice(EOLS)
    lines = ["---"] if rng.random() < 0.1 else []
    pieces = YAML_LIST if rng.random() < 0.5 else YAML_MAP
    indent = rng.choice(("", "", "", "  "))
    for _ in range(rng.randint(0, 5)):
        lines += [indent + line if line else line for line in rng.choice(pieces).split("\n")]
    return eol.join(lines) + eol * rng.randint(0, 2)


YAML_COMMON = ("# c: [", "", "  # x")
YAML_LIST = (
    *YAML_COMMON,
    "- a",
    "- {a: 1, b: [x, 'y'']', \"z}\"]}",
    '- model_id: it\'s\n  api_base: http://x:1/v1 # c\n  headers:\n    A: "Bearer: x"',
    "- - 1\n  - 2",
    "- |\n  text: [\n   more\n",
    "- 'two\n  lines'",
    "-\n  a: >-\n    b\n  c: d",
    "- [1,\n   2 # ]\n  ]",
    "- &x {k: v}\n- *x",
    "- plain\n  goes on",
    "- !!str 5",
)
YAML_MAP = (
    *YAML_COMMON,
    "a: 1",
    "'q x': \"y: z\"",
    "k:\n- 1\n- b: 2",
    "k2:\n  - 1\n  # c\n  - 2\nk3: x",
    "t: |+\n  text: {\n\n  more\n",
    "f: {a: [b, c: d], e}",
    "url: http://x#y",
    "n:\n  m:\n    o: 'p'\n  q: ~",
    'l: plain text\n  goes "on"',
    "e:",
    "m: it\n  'is plain",
    "x: 'a\n\n  b'",
)

MAKERS = {
    Format.JSON: _json,
    Format.JSONC: _json,
    Format.JSONC_TRAILING: _json,
    Format.TOML: _toml,
    Format.DOTENV: _dotenv,
    Format.YAML: _yaml,
}
