"""What doctor finds on a machine where one thing was broken."""

from __future__ import annotations

import shlex
import subprocess
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

from tests.fakes.web import ServerResponse
from tests.service.lab import Lab
from thv_llm import checks, settings, state
from thv_llm.checks import Check, Installation, Level
from thv_llm.errors import ExitCode
from thv_llm.tools import engine

PATIENCE_S = 60.0
"""No test must fail because the machine is busy."""


def look(lab: Lab, *only: str, **environ: str) -> list[Check]:
    here = Installation({**lab.environ, **environ}, lab.paths, "linux", time.time, slow_helper_s=PATIENCE_S)
    return list(checks.run(here, only=only))


def faults(lab: Lab, *only: str, **environ: str) -> list[Check]:
    return [check for check in look(lab, *only, **environ) if check.level is not Level.OK]


def one_fault(lab: Lab, *only: str, **environ: str) -> Check:
    found = faults(lab, *only, **environ)
    assert len(found) == 1, found
    return found[0]


def fix(lab: Lab, check: Check) -> None:
    """Run the command that doctor printed."""
    assert not isinstance(check.remedy, str), check
    words = shlex.split(check.next_step)
    if words[0] == "thv-llm":
        assert lab.run(*words[1:]).code is ExitCode.DONE
    else:
        subprocess.run(words, check=True, timeout=10)


def wire(lab: Lab, tool: str) -> Path:
    """Wire a tool as setup does; return its settings file."""
    wanted = settings.load(lab.paths.settings)
    values = engine.values_of(wanted, state.load(lab.paths.state), lab.paths.helper, ("m-1",))
    place = engine.Place(lab.environ, lab.paths.home, "linux")
    planned = engine.plan(engine.by_name(tool), place, values, state.load(lab.paths.state))
    (outcome,) = engine.apply([planned], lab.paths)
    assert outcome.error is None
    return Path(planned.files[0].path)


def connection(lab: Lab) -> dict[str, object]:
    return {
        "gateway_url": lab.gateway.url,
        "oidc__issuer": lab.provider.issuer,
        "oidc__client_id": "cli",
    }


def told_time(response: ServerResponse) -> ServerResponse:
    return replace(response, headers={**response.headers, "Date": formatdate(time.time(), usegmt=True)})
