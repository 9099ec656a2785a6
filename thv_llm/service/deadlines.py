"""How long the end of a service may take: for itself, for who stops it, and for the service manager."""

from __future__ import annotations

DRAIN_S = 10.0
"""How long running streams may go on after the service was asked to stop."""
REFRESH_S = 50.0
"""What the longest refresh of `tokens` takes. Cutting it off may lose the session, so it is waited for."""
STOP_TIMEOUT_S = DRAIN_S + REFRESH_S
