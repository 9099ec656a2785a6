"""`thv-llm completion bash|zsh|fish`: tab completion, made from the parser itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from thv_llm.world import World

SUMMARY = "tab completion for bash, zsh and fish"
EXAMPLES = """
thv-llm completion bash > ~/.local/share/bash-completion/completions/thv-llm
thv-llm completion zsh > ~/.zfunc/_thv-llm
       ~/.zshrc needs fpath+=~/.zfunc in front of compinit
thv-llm completion fish > ~/.config/fish/completions/thv-llm.fish
"""
SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Print the script."""
    from thv_llm.commands import completion_scripts
    from thv_llm.tools.registry import TOOLS

    words = {"TOOL": [tool.id for tool in TOOLS], "NAME": [tool.id for tool in TOOLS]}
    root = completion_scripts.describe(args.whole_parser(), words, hidden=args.hidden_verbs)
    world.answer(getattr(completion_scripts, args.shell)(root).rstrip("\n"))
    return ExitCode.DONE
