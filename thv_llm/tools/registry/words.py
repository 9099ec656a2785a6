"""What we call ourselves in the settings of other programs."""

from __future__ import annotations

NAME = "thv-llm"
"""Our provider id, nobody else's, so that a key of the user's is never sent to the gateway by mistake."""

TITLE = "thv-llm gateway"
"""What a tool's model picker shows."""
