"""`python -m tests.bench [SUITE] [ROW]`: run one suite of measurements and print its table.

Without a suite it is the proxy's, so `make bench ROW=small-8` measures one of its rows.
"""

from __future__ import annotations

import importlib
import sys

SUITES = ("proxy", "helper", "rotation", "soak", "fuzz", "faults", "large", "homes")
USAGE = f"usage: python -m tests.bench [SUITE] [ROW…], with a SUITE of {', '.join(SUITES)}"


def main(arguments: list[str]) -> int:
    if any(word.startswith("-") for word in arguments):
        print(USAGE, file=sys.stderr)
        return 2
    suite, rows = "proxy", arguments
    if arguments and arguments[0] in SUITES:
        suite, rows = arguments[0], arguments[1:]
    module = importlib.import_module(f"tests.bench.{suite}")
    result: int = module.main(rows)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
