"""Connections of ours to servers: dialing, proxies of the environment, TLS."""
