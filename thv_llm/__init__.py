"""thv-llm: one login lets every AI tool on this machine use an OIDC-protected LLM gateway.

The map. A module imports only from lower layers, or from siblings in its own subpackage.

0  errors                      failures a user can meet, and their exit codes
0  secret                      a string that cannot be printed by accident
0  agent_client                the shortest way to a token: find the socket, ask the agent, print
0  system                      what differs by operating system: its name, and whether there is a display
0  system.detach               a process that outlives its caller, and reports to it through a pipe
0  system.file_system          exact renames, private directories, the claim on a socket
0  system.memory               keep other programs and crash reports away from our memory; one heap
0  system.peers                which user is at the other end of a connection on this machine
0  system.processes            other processes: who they are, what they listen on
0  system.terminal             the user's terminal: is there one, one typed line at a time, colors
0  system.windows              access lists, sharing violations, processes, secrets of Windows, by ctypes
0  system.windows_pipe         a named pipe of Windows, as far as the agent needs a socket
1  files                       atomic replace that keeps metadata; private directories; locks
1  log                         stderr and file logging; a last filter that hides anything token-shaped
1  paths                       every path we use, and the command lines by which we start ourselves
1  policy                      what the administrator of this machine has decided: its settings file
1  validation                  what a setting's value can be
1  edit                        which editor a file's format has: the one place where formats are told apart
1  edit.document               the rules of editing that hold for every format: what is ours; brackets in text
1  edit.dotenv                 set and remove variables in a `.env` file, touching nothing else
1  edit.jsonc                  set and remove members of JSON settings, touching nothing else; its parser
1  edit.model                  plain values by path, and the record of a changed key: what every format shares
1  edit.toml                   set and remove keys in TOML settings, touching nothing else
1  edit.toml_lex               TOML 1.0: where every header, pair and value stands; keys and values as text
1  edit.yaml                   a marked block of ours at the end of a YAML file
1  net.dial                    a TCP connection: several addresses, or the environment's HTTP proxy
1  net.failures                why a connection to a server failed, in words that a user can act on
1  net.http_client             the one HTTP client for requests of our own: one connection, one deadline
1  net.tls                     the client's TLS context: which authorities, which checks
1  proxy.headers               which headers pass through the proxy, in each direction
1  proxy.http1                 heads and targets of HTTP/1.1 messages, in both directions, strictly (RFC 9112)
2  providers                   one entry per identity provider: what it needs, what its errors mean
2  sessions                    which sessions are stored, and where: the state file's part for a cold `token`
2  settings                    `llm.toml`: the connection settings
2  tools.model                 the words in which an AI tool is described: where it is, what marks it
2  tools.registry              one entry per AI tool. Data only: adding a tool is adding an entry here
2  tools.registry.direct       tools that get each token from the helper and talk to the gateway themselves
2  tools.registry.editors      editors and IDEs with a settings file of their own: all go through our proxy
2  tools.registry.manual       tools that setup cannot write to: with a snippet to paste, or why there is none
2  tools.registry.proxy        tools that can only hold a base URL and a fixed key
3  state                       `llm-state.json`: undo record, local keys, facts about service and sessions
3  oidc.device                 a login with a code that is typed in on another device
3  oidc.discovery              provider metadata: fetched, checked, and kept for a day
3  oidc.http                   requests to the provider: JSON over https; which URLs of a provider are used
3  oidc.id_token               ID tokens, checked: who logged in; the one reader of JWTs
3  oidc.interaction            the user at the machine, as a login sees them
3  oidc.login                  a login, from the first URL to checked tokens; one at a time per machine
3  oidc.loopback               the redirect listener of a login, and the pages that it shows
3  oidc.published              what a gateway publishes of how to log in: fetched and checked
3  oidc.token_endpoint         codes and refresh tokens in, access tokens out; revocation (RFC 6749, 7009)
3  store                       what every store of the session offers, and how a store can fail
3  store.aesgcm                AES-256-GCM, bytes to bytes
3  store.choice                which store a session is in: the one place that knows them all
3  store.encrypted_file        the session in an encrypted file, where there is no OS keyring
3  store.os_keyring            the session in what the `keyring` package offers: macOS Keychain, or one named
3  store.secret_service        the session in the Secret Service of the Linux desktop
4  tokens                      a fresh access token: from memory, else by refreshing the session
4  proxy.access                who can use the proxy
4  proxy.error_responses       our own responses: health, errors
4  proxy.event_loop            one thread that moves all bytes, and threads for what blocks
4  proxy.exchange              one exchange with the gateway, as far as the head of its response
4  proxy.forward               a request that can pass, to the gateway and its response back
4  proxy.framing               how a message's body is delimited, and its decoders (RFC 9112 sections 6 and 7)
4  proxy.relay                 what comes back from the gateway: a response, or another protocol (WebSocket)
4  proxy.server                the listener on the loopback, and the connections of the clients
4  proxy.stats                 what is told of each exchange, and the figures over all of them
4  proxy.transport             a byte stream over a socket that never blocks, plain or with TLS
4  proxy.upstream              the gateway: its address, and a pool of TLS connections to it
4  service.agent               the socket that serves the helper
4  service.agent_protocol      what the lines between agent and client mean, and whether the agent is ours
4  service.autostart           have the service started at every login: systemd, launchd, Run key
4  service.background          the detached service process: start it, find it, stop it
4  service.helper              the helper: the small program that direct tools run for a token
4  service.pid_file            which process is our service, what it was started from, how long its end takes
4  tokens.failure              the last refresh that failed, remembered across processes, with no token in it
4  tokens.grants               tokens for a workload instead of a user; the client secret of either
4  tokens.session              from settings to a `TokenSource`: which session, which store, which provider
4  tokens.source               `TokenSource`: the one place where a session is used up and replaced
4  tools.desired               what a tool's files should be: texts in, texts out
4  tools.engine                find, plan, apply and undo the wiring of any tool; show it; knows none by name
4  tools.machine               this machine: where things are, which tools it has, what can stand in their way
4  tools.undo                  put back what setup changed: by the undo record, or by what is ours in a file
4  tools.values                turn an entry's templates into plain values
5  context                     what tests replace, as one value: environment, streams, clock, browser
5  gateway                     what the gateway says of itself: its models, where it serves Anthropic's API
5  service.cold_token          one access token for a process that does not stay
5  service.network             the network as the user's shell knows it, kept for the service
5  service.on_demand           tell the user, or open the browser, when a tool needs a login
5  service.service             the service itself: token source, agent and proxy put together
6  checks                      what `doctor` checks and `status --check` asks
6  checks.local                checks of this machine alone: Python, our files, service, the wired tools
6  checks.model                the words of a finding, and what the checks look at
6  checks.remote               checks over the network: provider, session and token, gateway
7  commands.completion         `thv-llm completion SHELL`: tab completion, made from the parser itself
7  commands.config             `thv-llm config set|show|reset`: the settings by hand
7  commands.connection         from the gateway's URL to settings: what it publishes, what the user says
7  commands.doctor             `thv-llm doctor`: check everything that can be wrong
7  commands.env                `thv-llm env` and `run`: the environment variables, for a shell or a command
7  commands.help               `thv-llm help` and `version`: the commands, the manual, what is installed
7  commands.parser             the command-line parser, and a flag for each row of the settings
7  commands.proxy              `thv-llm proxy …`: the background service, by hand
7  commands.screen             how things are shown to people: color, times, sizes
7  commands.setup              `thv-llm setup`: find the tools, log in, wire them, start what must run
7  commands.session            `thv-llm login` and `logout`: the session as commands begin and end it
7  commands.sources            the settings that a run is given: flags, environment, `--from`
7  commands.status             `thv-llm status`: gateway, session, service, tools on one screen
7  commands.teardown           `thv-llm teardown` and `uninstall`: put back what setup changed
7  commands.token              `thv-llm token`: print one fresh access token, for programs
7  commands.tools              `thv-llm tools [NAME]` and `models`: what can be used here, and how
7  commands.watching           how the service is shown: one line per request, counts, its log
7  commands.wiring             what `setup`, `teardown` and `tools` share: where tools are looked for
8  cli                         what can be typed, and how a run ends
9  __main__                    `python -m thv_llm`: the same as running the built file
"""

__version__ = "0.1.0"
