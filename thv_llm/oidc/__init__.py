"""OpenID Connect, as a public client: one protocol step per module; `http` is the only door."""
