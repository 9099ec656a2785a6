"""`python -m tests.bench SUITE [ROW]`: run one suite of measurements and print its table."""

from __future__ import annotations

import importlib
import sys

SUITES = ("proxy", "helper", "rotation", "soak", "fuzz")


def main(arguments: list[str]) -> int:
    suite = arguments[0] if arguments else "proxy"
    if suite not in SUITES:
        print(f"unknown suite {suite!r}; there is: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"tests.bench.{suite}")
    result: int = module.main(arguments[1:])
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
