"""Start thv-llm. Any Python since 2.7 can parse this file, so that an old one can say what is needed."""

import os
import sys

NEEDED = (3, 11)
NEWER = ["python3.%d" % minor for minor in range(20, 10, -1)]
PLACES = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"]
GUARD = "THV_LLM_STARTED_BY_OLDER_PYTHON"
OWN = os.path.dirname(os.path.abspath(__file__))  # the .pyz, or the top of a checkout
IS_FILE = os.path.isfile(__file__)


def is_new_enough(python):
    """Ask it: a version manager puts names on PATH that stand for nothing."""
    import subprocess

    code = "import sys; sys.exit(sys.version_info < %r)" % (NEEDED,)
    with open(os.devnull, "w") as nowhere:
        try:
            return subprocess.call([python, "-I", "-c", code], stdout=nowhere, stderr=nowhere) == 0
        except OSError:  # a directory of that name, or a program for another processor
            return False


def start_newer():
    """Run the same command line with a newer Python, if there is one."""
    if os.environ.get(GUARD):
        return
    os.environ[GUARD] = "1"
    if os.name == "nt":
        start_newer_on_windows()
        return
    for place in os.environ.get("PATH", "").split(os.pathsep) + PLACES:
        for name in NEWER:
            path = os.path.join(place, name)
            if os.path.isabs(path) and os.access(path, os.X_OK) and is_new_enough(path):
                os.execv(path, [path, "-I", os.path.abspath(__file__ if IS_FILE else OWN)] + sys.argv[1:])


def start_newer_on_windows():
    """The same by `py`, the launcher that python.org's installer brings; exec would not hand on the exit code."""
    import subprocess

    for minor in range(20, 10, -1):
        python = ["py", "-3.%d" % minor]
        try:
            found = subprocess.call(python + ["-I", "-c", ""], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError:  # there is no such launcher
            return
        if found == 0:
            sys.exit(subprocess.call(python + ["-I", os.path.abspath(__file__ if IS_FILE else OWN)] + sys.argv[1:]))


def refuse_store():
    """Microsoft Store's Python writes below AppData into a copy of its own, which no tool would ever see."""
    if "windowsapps" in (sys.executable + sys.base_prefix).lower():
        sys.exit("thv-llm: error: Python from the Microsoft Store cannot be used\n  why:  "
                 "its programs see a copy of AppData, so tools would not find what is written there\n  next: "
                 "install Python from python.org, and run this with it")


def clean_path():
    """Drop what PYTHONPATH put in: a json.py in a project must not shadow the standard library."""
    theirs = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    try:
        theirs += [os.path.abspath(path) for path in theirs]  # an empty one is the current directory
    except OSError:  # which was deleted
        pass
    library = os.path.dirname(os.__file__)
    sys.path[:] = [OWN] + [path for path in sys.path if path.startswith(library) or path not in theirs]


def compile_once():
    """Halve the time of an import: zipimport compiles a module to tell its file's name, and again to load it."""
    import zipimport

    class Importer(zipimport.zipimporter):
        def get_filename(self, fullname):
            path = os.path.join(self.archive, self.prefix + fullname.rpartition(".")[2])
            return os.path.join(path, "__init__.py") if self.is_package(fullname) else path + ".py"

    sys.path_hooks.insert(0, Importer)
    sys.path_importer_cache.pop(OWN, None)


def main():
    if sys.version_info < NEEDED:
        start_newer()
        sys.exit("thv-llm: error: Python 3.11 or later is needed; this is %s" % sys.version.split()[0])
    os.environ.pop(GUARD, None)
    if os.name == "nt":
        refuse_store()
    clean_path()
    if not IS_FILE:
        compile_once()
    if sys.argv[1:] == ["token"]:  # what tools run all day
        from thv_llm import agent_client

        agent_client.main(os.environ)
    from thv_llm.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
