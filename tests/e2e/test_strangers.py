"""Who else is on the machine: web pages in the user's browser, and other users."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.machine import Machine, NewMachine
from tests.e2e.webdriver import Chromium
from tests.fakes.web import ServerResponse, WebServer

NOBODY = 65534

ATTACK = """
const [base, key] = arguments;
const chat = base + '/v1/chat/completions', body = JSON.stringify({model: 'm-1', messages: []});
const tries = {
  plain: () => fetch(chat, {method: 'POST', body}),
  no_cors: () => fetch(chat, {method: 'POST', mode: 'no-cors', body}),
  key: () => fetch(chat, {method: 'POST', body, headers: {Authorization: 'Bearer ' + key}}),
  key_in_query: () => fetch(base + '/v1/models?key=' + key, {mode: 'no-cors'}),
  image: () => new Promise((yes, no) => {
    const image = new Image();
    Object.assign(image, {onload: yes, onerror: no, src: base + '/v1/models?key=' + key});
  }),
  socket: () => new Promise((yes, no) => {
    const socket = new WebSocket(base.replace('http', 'ws') + '/v1/responses?key=' + key);
    socket.onopen = yes; socket.onerror = no;
  }),
};
return (async () => {
  const read = {};
  for (const [name, attempt] of Object.entries(tries)) {
    try {
      const answer = await attempt();
      read[name] = answer.type === 'opaque' ? 'opaque' : await answer.text();
    } catch (error) { read[name] = 'refused'; }
  }
  const frame = document.createElement('iframe'); frame.name = 'f'; document.body.append(frame);
  const form = document.createElement('form');
  form.method = 'post'; form.action = base + '/v1/messages?key=' + key; form.target = 'f';
  document.body.append(form); form.submit();
  await new Promise((yes) => { frame.onload = yes; setTimeout(yes, 3000); });
  return read;
})();
"""


@pytest.fixture
def machine(new_machine: NewMachine) -> Machine:
    machine = new_machine("llm")
    machine.setup()
    machine.gateway.requests.clear()
    return machine


def test_a_web_page_gets_no_request_through_the_proxy(machine: Machine) -> None:
    with WebServer(lambda _: ServerResponse(body="<h1>cats</h1>"), tls=False) as cats, Chromium() as chromium:
        chromium.open(cats.url.replace("127.0.0.1", "evil.example"))
        assert "cats" in chromium.text()

        read = chromium.run(ATTACK, f"http://127.0.0.1:{machine.port}", machine.local_key())
        assert set(read.values()) <= {"refused", "opaque"}, read

        # The name of the page made to resolve to the proxy (DNS rebinding).
        chromium.open(f"http://evil.example:{machine.port}/v1/models?key={machine.local_key()}")
        assert "m-1" not in chromium.text()

    assert machine.gateway.requests == []
    assert "200" in machine.run("curl", "-sw", "%{http_code}", *models(machine, machine.local_key())).out


def models(machine: Machine, key: str) -> list[str]:
    return ["-H", f"Authorization: Bearer {key}", f"http://127.0.0.1:{machine.port}/v1/models"]


@pytest.mark.root
def test_another_user_has_neither_key_nor_socket_nor_token(machine: Machine) -> None:
    for path in (machine.place, machine.home):
        path.chmod(0o755)  # as many homes are

    def as_other_user(*command: str) -> str:
        done = subprocess.run(
            command,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    for key in ("thv-guess", machine.local_key()):  # even with the key
        response = as_other_user("curl", "-sSw", " %{http_code}", *models(machine, key))
        assert "curl: (" in response, response  # cut off: reset, or an empty response
    for path in (machine.ours / "llm-state.json", machine.ours / "llm-session.key", machine.helper):
        assert path.exists()
        assert "Permission denied" in as_other_user("cat", str(path))
    sockets = [*machine.runtime.rglob("llm.sock"), *machine.ours.rglob("llm.sock")]
    assert sockets
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(sockets[0])!r})"
    assert "PermissionError" in as_other_user("/usr/bin/python3", "-c", connect)
    service = [pid for pid, line, _ in machine.processes() if "proxy" in line]
    assert "Permission denied" in as_other_user("cat", f"/proc/{service[0]}/environ")
    assert machine.gateway.requests == []
