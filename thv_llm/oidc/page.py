"""The page that the browser shows when a login has ended.

No script, nothing from elsewhere, nothing unescaped, not kept by the browser. The policy
names the one style sheet by its hash, so that even a mistake in escaping could run nothing.

Pure.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

STYLE = """\
:root{color-scheme:light dark;--ground:#f4f5f7;--card:#fff;--edge:#e1e4e8;--text:#1b1f24;--soft:#59636e;
--mark:#1a7f37;--tint:#dafbe1}
.failed{--mark:#b3261e;--tint:#ffe4e1}
.other{--mark:var(--soft);--tint:var(--ground)}
@media (prefers-color-scheme:dark){
:root{--ground:#0d1117;--card:#161b22;--edge:#2b323b;--text:#e6edf3;--soft:#9aa5b1;--mark:#4ac26b;--tint:#12331f}
.failed{--mark:#ff8b80;--tint:#431a17}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--ground);
color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{width:100%;max-width:29rem;padding:2.5rem 2.25rem 2rem;background:var(--card);
border:1px solid var(--edge);border-radius:16px;
box-shadow:0 1px 2px rgb(0 0 0/.05),0 12px 32px rgb(0 0 0/.07)}
.mark{display:grid;place-items:center;width:3.25rem;height:3.25rem;border-radius:50%;background:var(--tint)}
.mark svg{width:1.6rem;height:1.6rem;fill:none;stroke:var(--mark);stroke-width:2.6;stroke-linecap:round;
stroke-linejoin:round}
h1{margin:1.25rem 0 .35rem;font-size:1.4rem;line-height:1.25;letter-spacing:-.01em}
p{margin:.6rem 0 0;color:var(--soft);overflow-wrap:anywhere}
strong{color:var(--text);font-weight:600}
code{padding:.15em .45em;border-radius:6px;background:var(--ground);color:var(--text);
font:.9em ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}
footer{margin-top:1.75rem;padding-top:1rem;border-top:1px solid var(--edge);
font-size:.85rem;color:var(--soft)}
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Connection", "close"),
)
"""Headers of each answer to the browser. Source: RFC 9700 section 4.2.4 (code leaks by Referer)."""

_TICK = "M5 12.5l4.5 4.5L19 7.5"
_CROSS = "M7 7l10 10M17 7L7 17"
_POINT = "M12 11v7M12 6v.01"


def success(gateway_name: str) -> bytes:
    """Return the page for a login that has worked."""
    return _page(
        "Logged in",
        "done",
        _TICK,
        f"<p>Your AI tools can now use <strong>{escape(gateway_name)}</strong>.</p>"
        "<p>You can close this window.</p>",
    )


def failure(why: str, next_step: str) -> bytes:
    """Return the page for a login that has failed.

    Args:
        why: what happened, plain text.
        next_step: the command or action that helps, plain text.
    """
    advice = f"<p>What to do: {_command_or_text(next_step)}</p>" if next_step else ""
    return _page(
        "The login failed",
        "failed",
        _CROSS,
        f"<p>{escape(_sentence(why))}</p>{advice}<p>You can close this window.</p>",
    )


def stray() -> bytes:
    """Return the page for a request that is not the answer to a login."""
    return _page(
        "Nothing to see here",
        "other",
        _POINT,
        "<p>This address takes the answer to one login, and this was not it. A login that is under way "
        "goes on.</p>",
    )


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _command_or_text(text: str) -> str:
    return f"run <code>{escape(text)}</code>" if text.startswith("thv-llm ") else escape(text)


def _page(title: str, kind: str, path: str, content: str) -> bytes:
    text = (
        f'<!doctype html><html lang="en" class="{kind}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} · thv-llm</title><style>{STYLE}</style></head><body><main>"
        f'<div class="mark"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="{path}"/></svg></div>'
        f"<h1>{escape(title)}</h1>{content}<footer>thv-llm on this machine</footer></main></body></html>\n"
    )
    return text.encode()
