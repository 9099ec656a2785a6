"""Tools that setup cannot write to: with a snippet to paste, or with the reason why not."""

from __future__ import annotations

from thv_llm.tools.model import Tool

MANUAL: tuple[Tool, ...] = ()
