"""Canaille as the provider of a test: one user, one public client whose redirect URI is compared exactly."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from wsgi import serve


def application(given: dict[str, Any], url: str) -> Any:
    """Return the application, with a database of its own."""
    from canaille import create_app
    from canaille.app import models

    host = url.partition("://")[2]
    app = create_app(
        {
            "SECRET_KEY": "of-the-tests",
            "SERVER_NAME": host,
            "PREFERRED_URL_SCHEME": "https",
            "CANAILLE": {"DATABASE": "sql", "LOGGING": {"version": 1}},
            "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{given['directory']}/canaille.db"},
            "CANAILLE_OIDC": {
                "ACTIVE_JWKS": [Path(given["signing_key"]).read_text()],
                "REQUIRE_NONCE": False,
                "TRUSTED_DOMAINS": ["127.0.0.1"],
            },
        }
    )
    with app.app_context():
        backend = app.backend
        user = models.User(
            user_name="dev",
            formatted_name="Dev",
            family_name="Dev",
            emails=["dev@example.com"],
            password="secret",
        )
        backend.save(user)
        client = models.Client(
            client_id=given["client_id"],
            client_name="thv-llm",
            client_uri="https://127.0.0.1",
            redirect_uris=[given["redirect_uri"]],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            scope=["openid", "profile", "email", "offline_access"],
            token_endpoint_auth_method="none",
            client_id_issued_at=datetime.datetime.now(datetime.UTC),
        )
        backend.save(client)
        client.audience = [client]
        backend.save(client)
    return app


if __name__ == "__main__":
    serve(application)
