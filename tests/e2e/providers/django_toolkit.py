"""django-oauth-toolkit as the provider of a test: one user, one public client, PKCE required."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsgi import serve


def application(given: dict[str, Any], url: str) -> Any:
    """Return the application, with a database of its own."""
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="of-the-tests",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{given['directory']}/db"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.middleware.common.CommonMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        LOGIN_URL="/login/",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": url + "/o",
            "OIDC_RSA_PRIVATE_KEY": Path(given["signing_key"]).read_text(),
            "SCOPES": {"openid": "who you are", "offline_access": "a session that lasts"},
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "PKCE_REQUIRED": True,
        },
    )
    django.setup()

    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    User.objects.create_user("dev", "dev@example.com", "secret")
    Application.objects.create(
        client_id=given["client_id"],
        client_type=Application.CLIENT_PUBLIC,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="http://127.0.0.1/callback",  # it takes every port
        algorithm=Application.RS256_ALGORITHM,
        skip_authorization=True,
        name="thv-llm",
    )
    return get_wsgi_application()


def _urlpatterns() -> list[Any]:
    from django.contrib.auth import authenticate, login
    from django.http import HttpResponse, HttpResponseRedirect
    from django.urls import include, path
    from django.utils.html import escape
    from oauth2_provider.urls import metadata_urlpatterns

    def page(request: Any) -> Any:
        then = request.GET.get("next") or request.POST.get("next", "")
        if request.method == "POST":
            login(
                request,
                authenticate(request, username=request.POST["login"], password=request.POST["password"]),
            )
            return HttpResponseRedirect(then)
        fields = f'<input name=login><input name=password><input name=next value="{escape(then)}">'
        return HttpResponse(f"<form method=post action=/login/>{fields}</form>")

    return [
        path("login/", page),
        path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
        *metadata_urlpatterns,
    ]


def __getattr__(name: str) -> Any:
    if name == "urlpatterns":
        return _urlpatterns()
    raise AttributeError(name)


if __name__ == "__main__":
    serve(application)
