"""A browser for Glewlwyd, whose login page is a program of its own: it does what that page does.

    python3 glewlwyd_browser.py CA_FILE URL     as $BROWSER; prints where it ended

Standard library only, and of this project only the scripted browser.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from scripted_browser import FILLED_IN, Browser  # type: ignore[import-not-found]


def main(ca_file: str, url: str) -> None:
    """Log in, agree to the scopes, and go back to where the login page would."""
    browser = Browser(ca_file)
    parts = urllib.parse.urlsplit(url)
    asked = urllib.parse.parse_qs(parts.query)

    def send(method: str, path: str, body: dict[str, str]) -> None:
        to = f"{parts.scheme}://{parts.netloc}/api/{path}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(to, json.dumps(body).encode(), headers, method=method)
        browser._opener.open(request, timeout=20).close()

    send("POST", "auth/", {"username": FILLED_IN["login"], "password": FILLED_IN["password"]})
    send("PUT", f"auth/grant/{asked['client_id'][0]}/", {"scope": asked["scope"][0]})
    print(browser.visit(f"{url}&g_continue").url)


if __name__ == "__main__":
    main(*sys.argv[1:])
