"""The reverse proxy on 127.0.0.1: takes a client's fixed key away, puts a fresh token in.

Its parts, from the outside in: `server` listens, reads requests and applies `access`, `forward` sends
them to the gateway with a token (`exchange`, `upstream`), `relay` passes back what comes. Pure: `http1`,
`framing`, `access`, `headers`, `error_responses`. One thread moves all bytes (`event_loop`,
`transport`); what blocks has threads of its own.
"""
