"""The programs that a measurement of the proxy needs, each a process of its own on loopback.

nginx is the gateway (TLS) and one of the peers (a reverse proxy), a Go program the other peer,
another one sends and reads event streams. Without a Go toolchain their columns and rows stay out;
without nginx or wrk, all rows but those of the event streams.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TLS = HERE.parent / "data" / "tls"
TOP = HERE.parent.parent
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
WRK = shutil.which("wrk") or ""
GO = shutil.which("go") or "/usr/local/go/bin/go"

NGINX_CONF = """
{user} daemon off; pid {work}/nginx-{name}.pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 0; client_body_buffer_size 16m;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s; sendfile on; tcp_nodelay on;
  upstream gateway {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000; }}
  {server}
}}
"""
GATEWAY = """server {{
  listen 127.0.0.1:{port} ssl backlog=1024; ssl_certificate {tls}/server.pem;
  ssl_certificate_key {tls}/server.key;
  location / {{ root {work}/files; }}
  # `return` alone would answer before the body is read; a proxied request reads it first.
  location /post {{
    proxy_pass http://unix:{work}/taken.sock; proxy_pass_request_body off;
    proxy_set_header Content-Length ""; proxy_set_header Transfer-Encoding "";
  }}
}}
server {{ listen unix:{work}/taken.sock; return 200 "taken"; }}"""
PEER = """server {{
  listen 127.0.0.1:{port} backlog=1024;
  location / {{
    proxy_pass https://{place}; proxy_ssl_verify on; proxy_ssl_trusted_certificate {tls}/ca.pem;
    proxy_ssl_name localhost; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Authorization "Bearer bench-token"; proxy_buffering off;
    proxy_request_buffering off;
  }}
}}"""


def lacking() -> dict[str, str]:
    """Return the programs that are not installed, and the Debian packages that have them."""
    found = {"wrk": WRK, "nginx": NGINX}
    return {name: package for name, package in (("wrk", "wrk"), ("nginx", "nginx-light")) if not found[name]}


class Stage:
    """Starts and ends the programs.

    Attributes:
        work: a directory for what they write.
    """

    def __init__(self, work: Path, python: str = sys.executable) -> None:
        self.work = work
        self.python = python
        self._ports: set[int] = set()
        (work / "files").mkdir()
        for name, size in (("1k", 1024), ("100k", 100 * 1024), ("5m", 5 * 1024 * 1024)):
            (work / "files" / name).write_bytes(os.urandom(size))

    def python_version(self) -> str:
        """Return what our proxy runs on."""
        say = "import platform; print(platform.python_implementation(), platform.python_version())"
        asked = subprocess.run([self.python, "-c", say], capture_output=True, text=True, check=True)
        return asked.stdout.strip()

    def free_port(self) -> int:
        while True:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port: int = listener.getsockname()[1]
            if port not in self._ports:
                self._ports.add(port)
                return port

    @contextlib.contextmanager
    def run(self, *command: str, port: int, tree: str = str(TOP)) -> Iterator[int]:
        """Run a program that listens on a port; yield its process id."""
        # Go's peers tell of every connection that a load generator drops.
        with open(self.work / "errors.log", "ab") as errors:
            process = subprocess.Popen(command, cwd=tree, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            self._wait(port, process)
            yield process.pid
        finally:
            process.terminate()
            process.wait(20)

    def _wait(self, port: int, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{process.args!r} does not listen") from None
                time.sleep(0.05)

    def nginx(
        self, name: str, port: int, server: str, upstream: int = 1
    ) -> contextlib.AbstractContextManager[int]:
        values = {"work": self.work, "tls": TLS, "port": port, "place": "gateway"}
        conf = self.work / f"{name}.conf"
        user = "user root;" if os.getuid() == 0 else ""  # its workers must be able to read our directory
        text = NGINX_CONF.format(
            user=user, server=server.format(**values), name=name, upstream=upstream, **values
        )
        conf.write_text(text)
        return self.run(NGINX, "-p", str(self.work), "-c", str(conf), port=port)

    def ours(self, port: int, url: str, tree: str) -> contextlib.AbstractContextManager[int]:
        command = (self.python, "-m", "tests.bench.serve", str(port), url, str(TLS / "ca.pem"))
        return self.run(*command, port=port, tree=tree)

    def go(self, name: str) -> str:
        """Build one of our Go programs; return its path, empty without a toolchain."""
        if not os.path.isfile(GO):
            return ""
        binary = self.work / name
        # No module, no download: only the standard library is used.
        environ = os.environ | {
            "GO111MODULE": "off",
            "GOTOOLCHAIN": "local",
            "GOCACHE": os.environ.get("GOCACHE", str(TOP / ".cache" / "go")),
        }
        source = str(HERE / f"{name}.go")
        subprocess.run([GO, "build", "-o", str(binary), source], env=environ, check=True, timeout=300)
        return str(binary)


def cpu_times(pid: int) -> dict[str, float]:
    """Return the seconds of CPU that a process (not its children) has used, and the kernel for it. Linux."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return {"user": int(words[11]) / ticks, "system": int(words[12]) / ticks}


def memory_mb(pid: int) -> float:
    """Return a process's resident memory. Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0
