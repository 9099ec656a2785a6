"""The reverse proxy on 127.0.0.1: takes a tool's fixed key away, puts a fresh token in.

A connection has a thread, which does in plain blocking style what happens once per request: the
head, the access rules, the token, a connection to the gateway. Answers that are still coming are
handed to one thread for all of them, the pump, because hundreds of threads that each wake for
every event of their stream would fight for the interpreter.
"""
