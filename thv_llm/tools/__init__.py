"""Every AI tool that is known, as data, and the engine that wires any of them."""
