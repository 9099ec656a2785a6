"""What the gateway says of itself: its models, and where it serves Anthropic's API.

Asked by `setup` only; the traffic of the tools is `proxy`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from thv_llm.errors import ThvLlmError, UnreachableError, shown
from thv_llm.secret import Secret
from thv_llm.settings import Settings

TIMEOUT_S = 10.0
ANTHROPIC_PATH = "/anthropic"
MAX_MODELS = 500
"""A settings file with more entries than this helps nobody."""
