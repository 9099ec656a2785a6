"""A fresh access token: from memory, else by refreshing the session.

`open` gives a `TokenSource`; `session` names sessions, `renewal` talks to the provider, `failure`
remembers what went wrong, `source` ties them together, `keep_fresh` runs ahead of expiry, `ending`
removes sessions.
"""

from __future__ import annotations

from thv_llm.shortcut import MIN_VALID_S
from thv_llm.tokens.keep_fresh import keep_fresh
from thv_llm.tokens.session import open
from thv_llm.tokens.source import AccessToken, Clock, TokenSource

__all__ = ["MIN_VALID_S", "AccessToken", "Clock", "TokenSource", "keep_fresh", "open"]
