"""Start thv-llm. Any Python since 2.7 can parse this file, so that an old one can say what is needed."""

import os
import sys

NEEDED = (3, 11)
NEWER = ["python3.%d" % minor for minor in range(20, 10, -1)]
PLACES = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"]
GUARD = "THV_LLM_STARTED_BY_OLDER_PYTHON"


def start_newer():
    """Run the same command line with a newer Python, if there is one."""
    if os.environ.get(GUARD):
        return
    os.environ[GUARD] = "1"
    for name in NEWER:
        for place in os.environ.get("PATH", "").split(os.pathsep) + PLACES:
            path = os.path.join(place, name)
            if os.path.isabs(path) and os.access(path, os.X_OK):
                try:
                    os.execv(path, [path, "-I", os.path.abspath(sys.argv[0])] + sys.argv[1:])
                except OSError:
                    pass


def main():
    if os.name == "nt":
        sys.exit("thv-llm: error: Windows is not supported yet")
    if sys.version_info < NEEDED:
        start_newer()
        sys.exit("thv-llm: error: needs Python 3.11 or later; this is %s" % sys.version.split()[0])
    os.environ.pop(GUARD, None)
    # What the caller's directory or PYTHONPATH put in front must not shadow the standard library.
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [own] + [p for p in sys.path if p.startswith((sys.base_prefix, sys.prefix, sys.exec_prefix))]
    from thv_llm.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
