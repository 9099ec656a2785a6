"""Our proxy as a process of its own: `python -m tests.bench.serve PORT GATEWAY CA`.

Prints the port it listens on, and on stderr what would be a defect of the proxy.
"""

from __future__ import annotations

import signal
import sys

from thv_llm.proxy.server import Proxy
from thv_llm.proxy.stats import LogEntry
from thv_llm.proxy.upstream import Gateway
from thv_llm.secret import Secret
from thv_llm.system import memory

KEY = "thv-bench-0123456789"


def _tell_defects(entry: LogEntry) -> None:
    if "defect" in entry.reason:
        print(entry, file=sys.stderr, flush=True)


def main(port: str, url: str, ca_file: str) -> None:
    memory.share_one_heap()  # as the service does
    token = Secret("bench-token")
    gateway = Gateway(url, environ={}, ca_file=ca_file)
    proxy = Proxy(
        int(port),
        gateway,
        lambda rejected: token,
        Secret(KEY),
        _tell_defects,
        token_at_hand=lambda: token,
    )
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # in all threads, which are started now
    proxy.start()
    print(proxy.port, flush=True)
    signal.sigwait(ends)
    proxy.stop(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
