from __future__ import annotations

import subprocess
import sys

import pytest

TOP = __file__.rsplit("/tests/", 1)[0]

PROGRAM = """
import os, signal, sys, time
sys.path.insert(0, {top!r})
from thv_llm.system import detach

def work():
    detach.settle_in()
    leader = os.getsid(0) == os.getpid()
    deaf = [signal.getsignal(n) is signal.SIG_IGN for n in detach.DEAF_TO]
    kept = os.read(3, 4).decode() if {keep} else "-"
    others = [n for n in range(4, 20) if is_open(n)]
    detach.report(f"leader={{leader}} deaf={{all(deaf)}} kept={{kept}} others={{others}}")
    time.sleep({linger})

def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

if sys.argv[1:] == ["worker"]:
    work()
    sys.exit()
keep = None
if {keep}:
    keep, writing = os.pipe()
    os.write(writing, b"this")
    os.close(writing)
leak = os.open("/dev/null", os.O_RDONLY)
os.set_inheritable(leak, False)
command = [sys.executable, "-I", __file__, "worker"]
line = detach.first_line(work, command, keep=keep, platform={platform!r})
sys.stderr.write(line)
"""


@pytest.fixture(params=["linux", "darwin"])
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(directory: object, platform: str, *, keep: bool = True, linger: float = 0, shell: str = "") -> str:
    path = f"{directory}/program.py"
    with open(path, "w") as file:
        file.write(PROGRAM.format(top=TOP, keep=keep, platform=platform, linger=linger))
    command = ["/bin/sh", "-c", f'exec "$0" -I "$1" {shell}', sys.executable, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.stdout == ""
    return done.stderr


def test_a_worker_has_a_session_of_its_own_and_only_what_it_was_given(
    tmp_path: object, platform: str
) -> None:
    assert run(tmp_path, platform) == "leader=True deaf=True kept=this others=[]"
    assert run(tmp_path, platform, keep=False) == "leader=True deaf=True kept=- others=[]"


def test_a_reader_of_the_callers_output_does_not_wait_for_the_worker(tmp_path: object, platform: str) -> None:
    # subprocess.run returns at the end of stdout and stderr; a worker that held them would exceed its limit
    assert run(tmp_path, platform, linger=11).startswith("leader=True")


@pytest.mark.parametrize("shell", [">&-", "<&- >&-", "<&-"])
def test_a_caller_with_closed_descriptors_is_served_too(tmp_path: object, platform: str, shell: str) -> None:
    assert run(tmp_path, platform, shell=shell) == "leader=True deaf=True kept=this others=[]"


def test_a_worker_that_dies_leaves_an_empty_response(tmp_path: object) -> None:
    program = (
        f"import os, sys\nsys.path.insert(0, {TOP!r})\nfrom thv_llm.system import detach\n"
        "print(repr(detach.first_line(lambda: os._exit(9), [], keep=None, platform='linux')))"
    )

    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "''\n"
