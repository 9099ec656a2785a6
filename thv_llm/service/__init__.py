"""The background process: the agent socket, the helper, life cycle and autostart."""
