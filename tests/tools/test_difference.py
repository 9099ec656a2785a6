"""A diff that can be shown to anyone."""

from __future__ import annotations

import time

import pytest

from thv_llm.secret import Secret
from thv_llm.tools.engine import masked, unified

KEY = Secret("thv-abc")


@pytest.mark.parametrize(
    "line",
    [
        '  "apiKey": "s3cret",',
        "  'api-key': 's3cret',",
        '"OPENAI_API_KEY" : "s3cret"',
        "OPENAI_API_KEY=s3cret",
        "export GITHUB_TOKEN='s3cret'",
        "password = s3cret # mine",
        'openai-api-key: "s3cret"',
        '{"headers": {"Authorization": "s3cret", "x": 1}}',
        '"refresh_tokens": "a\\"s3cret"',
        "client_secret: s3cret",
        "AZURE_OPENAI_KEY=s3cret",
        '{"key": "s3cret"}',
        '{"name": "x", "keys": "s3cret"}',
        "Authorization: Bearer s3cret",
        "Authorization: Basic s3cret",
        'args = ["--api-key=s3cret"]',
        '{"token":"a","password":"s3cret"}',
        "password: a,s3cret",
        "password: a}]s3cret",
        "password: a'b\"s3cret",
        'token = "one s3cret',
        'token = """s3cret"""',
        "token = '''s3cret",
        "HTTPS_PROXY=http://user:s3cret@proxy:3128",
        "passphrase: s3cret",
    ],
)
def test_a_value_whose_name_says_secret_is_masked(line: str) -> None:
    shown = masked(line, local_key=KEY)
    assert "s3cret" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-REDACTED",
        "sk-proj-abcdefghijklmnop",
        "ghp_abcdefghijklmnopqrst",
        "github_pat_11ABCDEFGHIJKLMNOP",
        "AIzaSyA-abcdefghijklmnopqrs",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "xoxb-1234567890-abcdef",
        "AKIAABCDEFGHIJKLMNOP",
    ],
)
def test_a_value_that_looks_like_a_secret_is_masked_whatever_its_name(secret: str) -> None:
    assert secret not in masked(f'["{secret}"]', local_key=KEY)
    assert secret not in masked(f"Bearer {secret}", local_key=KEY)


@pytest.mark.parametrize(
    "line",
    [
        '  "model": "opus",',
        '"maxTokens": 200000',
        '"max_output_tokens": 16000',
        '"apiKeyHelper": "/home/me/bin/thv-llm-token"',
        '"hasToken": true',
        '"baseUrl": "http://127.0.0.1:14000/v1"',
        "# token budget",
        '{"hasToken":true,"model":"opus"}',
        "{max_tokens: 5, model: opus}",
        '{"token": "", "model": "opus"}',
        '"keyboard": "x", "monkeys-and-x": "x",',
        "https://gateway.example/v1?a=b@c",
    ],
)
def test_what_is_no_secret_is_shown(line: str) -> None:
    assert masked(line, local_key=KEY, public=frozenset({"/home/me/bin/thv-llm-token"})) == line


@pytest.mark.parametrize(
    "piece",
    [
        "x",
        "token",
        "token.",
        "x ",
        "token ",
        "token=",
        "token='",
        'token="\\',
        "key: ",
        "a:",
        "://a",
        "sk-",
        '"',
    ],
)
def test_a_long_line_takes_no_more_than_its_length(piece: str) -> None:
    def seconds(characters: int) -> float:
        line = piece * (characters // len(piece))
        started = time.thread_time()
        masked(line, local_key=KEY)
        return time.thread_time() - started

    assert seconds(100_000) < 1.0  # some 50 ms; what grows with the square takes minutes


def test_our_own_key_is_masked_wherever_it_stands() -> None:
    assert masked("x thv-abc y", local_key=KEY) == "x *** y"


def test_the_diff_is_unified_and_names_the_file() -> None:
    shown = unified(b"a\nb\n", b"a\nc\n", "/x/y.json", local_key=KEY)
    assert shown == "--- /x/y.json\n+++ /x/y.json\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"


def test_no_file_is_dev_null_and_nothing_to_do_is_nothing() -> None:
    assert unified(None, b"a\n", "/x", local_key=KEY).startswith("--- /dev/null\n+++ /x\n")
    assert unified(b"a\n", None, "/x", local_key=KEY).startswith("--- /x\n+++ /dev/null\n")
    assert unified(b"a\n", b"a\n", "/x", local_key=KEY) == ""


def test_ends_of_lines_are_not_printed_and_a_missing_last_one_is_told() -> None:
    shown = unified(b"a\r\nb", b"a\r\nc\r\n", "/x", local_key=KEY)
    assert "\r" not in shown
    assert "-b\n\\ No newline at end of file\n" in shown


def test_control_bytes_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in unified(None, b'"a": "\x1b[31m"\n', "/x", local_key=KEY)
