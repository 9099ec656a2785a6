"""Where the session lives, and which of them."""
