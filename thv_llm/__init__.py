"""thv-llm: one login lets every AI tool on this machine use an OIDC-protected LLM gateway.

The map. A module imports only from lower layers, or from siblings in its own subpackage.

0  errors                 failures a user can meet, and their exit codes
0  secret                 a string that cannot be printed by accident
1  log                    stderr and file logging; a last filter that hides anything token-shaped
1  paths                  every path we use, and the command lines by which we start ourselves
1  files                  atomic replace that keeps symlink, owner and mode; private directories; locks
1  aesgcm                 AES-256-GCM, bytes to bytes
1  tls                    the client's TLS context: which authorities, which checks
1  env_proxy              which HTTP proxy the environment asks for
"""

__version__ = "0.1.0"
