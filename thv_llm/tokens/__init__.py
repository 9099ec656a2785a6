"""A fresh access token: from memory, else by refreshing the session.

`session` opens and ends sessions, `source` refreshes one, `failure` remembers what went wrong.
"""

from __future__ import annotations

from thv_llm.agent_client import MIN_VALID_S
from thv_llm.tokens.session import end_all, note_found, open
from thv_llm.tokens.source import AccessToken, Clock, TokenSource, keep_fresh

__all__ = [
    "MIN_VALID_S",
    "AccessToken",
    "Clock",
    "TokenSource",
    "end_all",
    "keep_fresh",
    "note_found",
    "open",
]
