"""The reverse proxy on 127.0.0.1: takes a tool's fixed key away, puts a fresh token in.

Its parts, from the outside in: `server` listens, `connection` reads requests and applies `access`,
`forward` sends them to the gateway with a token (`attempt`, `upstream`), `relay` passes answers
back. What is pure: `http1`, `framing`, `access`, `target`, `headers`, `replies`. One thread moves all
bytes (`loop`); what blocks has threads of its own.
"""
