"""SDKs and scripts that are configured by variables alone: each asks one thing through `thv-llm run`.

What is installed for them is pinned (`clients.txt`, `clients/`); `make release-check` runs them, and the
manual has the table that comes of it (`help scripts`). Instructor and LlamaIndex are not among them:
they want an older SDK of OpenAI's than the others.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

from tests.e2e.install import CLIENTS, E2E, HERE, NODE, PYTHON_TOOLS
from tests.e2e.prompts import PLAIN, QUESTION

PYTHON = E2E / "clients" / "bin" / "python"
LLM = str(PYTHON.parent / "llm")
"""With its plugins."""


@dataclass(frozen=True)
class Client:
    """One client and its command line.

    Attributes:
        name: as the manual has it; what begins with `npm` is from there.
        package: whose version is shown, where it is not the name's first word.
        words: the command line for `thv-llm run`; it prints the response.
        why: why it does not work; "" for one that does.
        instead: the command line that works all the same.
    """

    name: str
    words: tuple[str, ...]
    package: str = ""
    why: str = ""
    instead: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """A word that tells it from the others."""
        return re.sub(r"\W+", "-", self.name).strip("-").lower()

    @property
    def version(self) -> str:
        """What is pinned of it; "" for a program of the operating system."""
        if self.name.startswith("npm "):
            pinned: dict[str, str] = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
            return pinned[self.name.removeprefix("npm ")]
        return _pinned().get(self.package or self.name.split()[0], "")


def python(code: str) -> tuple[str, ...]:
    """Return the command line of a script in Python; `ASK` is what OpenAI's and Anthropic's APIs take."""
    head = f"ASK = [{{'role': 'user', 'content': '{QUESTION}'}}]\n"
    return (str(PYTHON), "-c", head + code)


def node(code: str) -> tuple[str, ...]:
    """Return the command line of a script in JavaScript."""
    head = f"const messages = [{{role: 'user', content: '{QUESTION}'}}];\n"
    return (str(NODE), "--input-type=module", "-e", head + code)


@cache
def _pinned() -> dict[str, str]:
    text = "".join((HERE / f"{name}.txt").read_text() for name in (*PYTHON_TOOLS, "clients"))
    lines = [line.split()[0] for line in text.splitlines()]
    return {name: version for name, is_pin, version in (line.partition("==") for line in lines) if is_pin}


LITELLM = "import litellm; print(litellm.completion(model='{}', messages=ASK).choices[0].message.content)"
PYDANTIC_AI = "from pydantic_ai import Agent; print(Agent('{}').run_sync('say pong').output)"
AI_SDK = "import {{generateText}} from 'ai'; import {{{0}}} from '@ai-sdk/{1}';\n"
AI_SDK += "console.log((await generateText({{model: {2}, maxRetries: 0, messages}})).text)"
MADE_FOR_ANTHROPIC = "createAnthropic({baseURL: process.env.ANTHROPIC_BASE_URL + '/v1'})"
MADE_FOR_GOOGLE = (
    "createGoogleGenerativeAI({baseURL: process.env.GEMINI_API_BASE, apiKey: process.env.GEMINI_API_KEY})"
)
CURL = """curl -sS "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \
-H "Content-Type: application/json" -d '{"model": "m-1", "messages": []}'"""
GOOGLE_ITSELF = "no variable sets its base URL: it sends requests to Google itself"


def ai_sdk(package: str, made: str = "") -> tuple[str, ...]:
    """Return the command line of a package of the AI SDK; its own provider, or one that is made by a call."""
    provider = made.partition("(")[0] or package
    return node(AI_SDK.format(provider, package, f"{made or package}('m-1')"))


ALL: tuple[Client, ...] = (
    Client("curl", ("sh", "-c", CURL)),
    Client(
        "openai",
        python(
            "from openai import OpenAI\n"
            "print(OpenAI().chat.completions.create(model='m-1', messages=ASK).choices[0].message.content)"
        ),
    ),
    Client(
        "openai (responses)",
        python(
            "from openai import OpenAI\n"
            "print(OpenAI().responses.create(model='m-1', input='say pong').output_text)"
        ),
    ),
    Client(
        "openai-agents",
        python(
            "from agents import Agent, Runner\n"
            "print(Runner.run_sync(Agent(name='a', model='m-1'), 'say pong').final_output)"
        ),
    ),
    Client(
        "anthropic",
        python(
            "import anthropic\n"
            "client = anthropic.Anthropic()\n"
            "print(client.messages.create(model='m-1', max_tokens=99, messages=ASK).content[0].text)"
        ),
    ),
    Client(
        "google-genai",
        python(
            "from google import genai\n"
            "client = genai.Client()\n"
            "print(client.models.generate_content(model='m-1', contents='say pong').text)"
        ),
    ),
    Client("litellm `openai/…`", python(LITELLM.format("openai/m-1"))),
    Client("litellm `anthropic/…`", python(LITELLM.format("anthropic/m-1"))),
    Client("litellm `gemini/…`", python(LITELLM.format("gemini/m-1"))),
    Client(
        "langchain-openai",
        python(
            "from langchain_openai import ChatOpenAI\nprint(ChatOpenAI(model='m-1').invoke('say pong').text)"
        ),
    ),
    Client(
        "langchain-anthropic",
        python(
            "from langchain_anthropic import ChatAnthropic\n"
            "print(ChatAnthropic(model='m-1').invoke('say pong').text)"
        ),
    ),
    Client(
        "langchain-google-genai",
        python(
            "from langchain_google_genai import ChatGoogleGenerativeAI\n"
            "print(ChatGoogleGenerativeAI(model='gemini-2.5-flash').invoke('say pong').text)"
        ),
    ),
    Client("pydantic-ai `openai:…`", python(PYDANTIC_AI.format("openai:m-1")), "pydantic-ai-slim"),
    Client("pydantic-ai `anthropic:…`", python(PYDANTIC_AI.format("anthropic:m-1")), "pydantic-ai-slim"),
    Client("pydantic-ai `google:…`", python(PYDANTIC_AI.format("google:m-1")), "pydantic-ai-slim"),
    Client(
        "smolagents",
        python(
            "from smolagents import OpenAIModel\n"
            "print(OpenAIModel('m-1')([{'role': 'user', 'content': 'say pong'}]).content)"
        ),
    ),
    Client("dspy", python("import dspy; print(dspy.LM('openai/m-1')('say pong')[0])")),
    Client(
        "mistralai",
        python(
            "from mistralai.client import Mistral\n"
            "print(Mistral().chat.complete(model='m-1', messages=ASK).choices[0].message.content)"
        ),
        why="no variable sets its base URL: `Mistral(server_url=…, api_key=…)`",
        instead=python(
            "import os\n"
            "from mistralai.client import Mistral\n"
            "url = os.environ['OPENAI_BASE_URL'].removesuffix('/v1')\n"
            "client = Mistral(server_url=url, api_key=os.environ['OPENAI_API_KEY'])\n"
            "print(client.chat.complete(model='m-1', messages=ASK).choices[0].message.content)"
        ),
    ),
    Client("llm", ("llm", "-m", "gpt-4o", QUESTION)),
    Client(
        "llm-anthropic",
        (LLM, "-m", "anthropic/claude-sonnet-4-5", QUESTION),
    ),
    Client(
        "llm-gemini",
        (LLM, "-m", "gemini-2.5-flash", QUESTION),
        why=GOOGLE_ITSELF,
    ),
    Client("ShellGPT", ("sgpt", "--no-cache", "--model", "m-1", QUESTION), "shell_gpt"),
    Client(
        "aider",
        ("aider", *PLAIN, "--model", "openai/m-1", "--message", QUESTION),
        "aider-chat",
    ),
    Client(
        "npm openai",
        node(
            "import OpenAI from 'openai';\n"
            "const done = await new OpenAI().chat.completions.create({model: 'm-1', messages});\n"
            "console.log(done.choices[0].message.content)"
        ),
    ),
    Client(
        "npm @anthropic-ai/sdk",
        node(
            "import Anthropic from '@anthropic-ai/sdk';\n"
            "const done = await new Anthropic().messages.create({model: 'm-1', max_tokens: 99, messages});\n"
            "console.log(done.content[0].text)"
        ),
    ),
    Client(
        "npm @google/genai",
        node(
            "import {GoogleGenAI} from '@google/genai';\n"
            "const client = new GoogleGenAI({});\n"
            "const done = await client.models.generateContent({model: 'm-1', contents: 'say pong'});\n"
            "console.log(done.text)"
        ),
    ),
    Client(
        "npm @openai/agents",
        node(
            "import {Agent, run} from '@openai/agents';\n"
            "console.log((await run(new Agent({name: 'a', model: 'm-1'}), 'say pong')).finalOutput)"
        ),
    ),
    Client(
        "npm @langchain/openai",
        node(
            "import {ChatOpenAI} from '@langchain/openai';\n"
            "console.log((await new ChatOpenAI({model: 'm-1'}).invoke('say pong')).content)"
        ),
    ),
    Client(
        "npm @langchain/anthropic",
        node(
            "import {ChatAnthropic} from '@langchain/anthropic';\n"
            "console.log((await new ChatAnthropic({model: 'm-1'}).invoke('say pong')).content)"
        ),
    ),
    Client("npm @ai-sdk/openai", ai_sdk("openai")),
    Client(
        "npm @ai-sdk/anthropic",
        ai_sdk("anthropic"),
        why=f"its base URL must end in `/v1`: `{MADE_FOR_ANTHROPIC}`",
        instead=ai_sdk("anthropic", MADE_FOR_ANTHROPIC),
    ),
    Client(
        "npm @ai-sdk/google",
        ai_sdk("google"),
        why=f"no variable sets its base URL: `{MADE_FOR_GOOGLE}`",
        instead=ai_sdk("google", MADE_FOR_GOOGLE),
    ),
)
