"""`thv-llm completion SHELL`: tab completion, made from the parser itself.

The scripts come from a tree of what can be typed. All of them work alike: from the words typed so
far they find the command at hand (`proxy start`, say), then offer what follows the last word: an
option's values, or else subcommands, values of a positional argument, and options.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thv_llm.context import Context
from thv_llm.errors import ExitCode
from thv_llm.system.terminal import ASCII

SUMMARY = "tab completion for bash, zsh, fish and PowerShell"
EXAMPLES = """
thv-llm completion bash > ~/.local/share/bash-completion/completions/thv-llm
thv-llm completion zsh > ~/.zfunc/_thv-llm
       ~/.zshrc needs fpath+=~/.zfunc in front of compinit
thv-llm completion fish > ~/.config/fish/completions/thv-llm.fish
thv-llm completion powershell | Out-String | Invoke-Expression
       in this session; in each one with this line in $PROFILE
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help="bash, zsh, fish or powershell")


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print the script."""
    from thv_llm.commands import env, help, wiring
    from thv_llm.settings import ROWS
    from thv_llm.tools.registry import TOOLS
    from thv_llm.validation import OneOf

    whole = args.whole_parser()
    tools = [tool.id for tool in TOOLS]
    words: dict[str, Sequence[str]] = {
        "TOOL": [tool.id for tool in TOOLS if wiring.can_wire(tool)],
        "NAME": tools,
        "KEY": [row.key for row in ROWS],
        "COMMAND|TOPIC": [*help.children(whole), *help.topics()],
        "--tool": list(env.by_name()),
    }
    words |= {row.flag: row.check.choices for row in ROWS if isinstance(row.check, OneOf)}
    root = describe(whole, words)
    context.result(SHELLS[args.shell](root).rstrip("\n"))
    return ExitCode.DONE


PROGRAMS = ("thv-llm", "thv-llm.pyz", "thv-llm.cmd")
FILE_METAVARS = ("FILE",)


@dataclass(frozen=True)
class Option:
    """One option, or one positional argument (then without flags).

    Attributes:
        values: what can follow it, if that is known.
        takes_value: a word follows it.
        takes_file: that word is a file name.
    """

    flags: tuple[str, ...]
    help: str
    values: tuple[str, ...] = ()
    takes_value: bool = False
    takes_file: bool = False

    def about(self, flag: str) -> str:
        """Return what this flag does: of a switch, `--no-…` does the opposite."""
        is_opposite = flag.startswith("--no-") and f"--{flag[5:]}" in self.flags
        return f"turn off: {self.help}" if is_opposite else self.help


@dataclass(frozen=True)
class CommandNode:
    """One command.

    Attributes:
        path: the words that lead to it, `()` for the program itself.
    """

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...] = ()
    positionals: tuple[Option, ...] = ()
    children: tuple[CommandNode, ...] = ()

    def all(self) -> Iterator[CommandNode]:
        """Yield this command and all below it."""
        yield self
        for child in self.children:
            yield from child.all()

    @property
    def name(self) -> str:
        """The path as it is typed."""
        return " ".join(self.path)


def describe(
    parser: argparse.ArgumentParser,
    words: Mapping[str, Sequence[str]],
    *,
    path: tuple[str, ...] = (),
) -> CommandNode:
    """Return the tree of a parser.

    Args:
        words: what can stand for an argument of that metavar (`TOOL`), or after that option (`--tool`).
    """
    options: list[Option] = []
    positionals: list[Option] = []
    children: list[CommandNode] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                children.append(describe(child, words, path=(*path, name)))
        elif action.help != argparse.SUPPRESS:
            (options if action.option_strings else positionals).append(_option(action, words))
    about = (parser.description or "").strip()
    return CommandNode(path, about, tuple(options), tuple(positionals), tuple(children))


def _option(action: argparse.Action, words: Mapping[str, Sequence[str]]) -> Option:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.option_strings and metavar == "NAME":
        metavar = ""  # any name; as an argument it is a tool's
    choices = [str(choice) for choice in action.choices or ()]
    known = next((words[name] for name in (*action.option_strings, metavar) if name in words), ())
    return Option(
        flags=tuple(action.option_strings),
        help=(action.help or "").replace("%%", "%"),
        values=tuple(choices or known),
        takes_value=action.nargs != 0,
        takes_file=metavar in FILE_METAVARS,
    )


def _words_at(node: CommandNode) -> list[tuple[str, str]]:
    """Return what is not an option: subcommands and values of positional arguments, with help."""
    named = [(child.path[-1], child.help) for child in node.children]
    return named + [(value, "") for positional in node.positionals for value in positional.values]


def _flags_at(node: CommandNode) -> list[tuple[str, str]]:
    return [(flag, option.about(flag)) for option in node.options for flag in option.flags if flag != "-h"]


def _with_value(root: CommandNode) -> Iterator[tuple[list[str], Option]]:
    """Yield options that want a word after them, as "PATH FLAG"; those that want the same together."""
    found: dict[tuple[bool, tuple[str, ...]], tuple[list[str], Option]] = {}
    for node in root.all():
        for option in node.options:
            places = [f"{node.name} {flag}".strip() for flag in option.flags if option.takes_value]
            if places:
                found.setdefault((option.takes_file, option.values), ([], option))[0].extend(places)
    yield from found.values()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _pattern(paths: Sequence[str]) -> str:
    return " | ".join(_quoted(path) for path in paths)


def _bash_cases(root: CommandNode) -> tuple[str, str]:
    """Return the branches for options' values, and those for words and flags."""
    values = []
    for places, option in _with_value(root):
        offer = 'COMPREPLY=($(compgen -f -- "$cur")); compopt -o filenames 2>/dev/null; return'
        if option.values:
            offer = f'COMPREPLY=($(compgen -W {_quoted(" ".join(option.values))} -- "$cur")); return'
        elif not option.takes_file:
            offer = "return"  # anything can stand there
        values.append(f"        {_pattern(places)}) {offer} ;;")
    words = []
    for node in root.all():
        names = " ".join(name for name, _ in _words_at(node))
        flags = " ".join(name for name, _ in _flags_at(node))
        words.append(f"        {_quoted(node.name)}) words={_quoted(names)} flags={_quoted(flags)} ;;")
    return "\n".join(values), "\n".join(words)


def bash(root: CommandNode) -> str:
    """Return the script for bash 3.2 (macOS) and later."""
    values, words = _bash_cases(root)
    return f"""\
# bash completion for thv-llm, made by: thv-llm completion bash
_thv_llm() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} last=${{COMP_WORDS[COMP_CWORD - 1]}} at="" words="" flags="" i
    local IFS=$' \\t\\n'
    if [[ $cur == "=" ]]; then
        cur=""  # of --name=value, bash makes three words
    elif [[ $last == "=" ]]; then
        last=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{at:+$at }}${{COMP_WORDS[i]}}" in
        {_pattern([node.name for node in root.all() if node.path])}) at="${{at:+$at }}${{COMP_WORDS[i]}}" ;;
        esac
    done
    case "${{at:+$at }}$last" in
{values}
    esac
    case "$at" in
{words}
    esac
    case "$cur" in
    -*) words=$flags ;;
    *) words=${{words:-$flags}} ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -F _thv_llm {" ".join(PROGRAMS)}
"""


def _described(pairs: Sequence[tuple[str, str]]) -> str:
    """Return words for zsh's `_describe`: "word:help", quoted."""
    return " ".join(
        _quoted(f"{word}:{about}" if about else word)
        for word, about in ((w.replace(":", "\\:"), a) for w, a in pairs)
    )


def _zsh_cases(root: CommandNode) -> tuple[str, str]:
    """Return the branches for options' values, and those for words and flags."""
    values = []
    for places, option in _with_value(root):
        offer = "_files; return" if option.takes_file else "return"
        if option.values:
            pairs = [(value, "") for value in option.values]
            offer = f"items=({_described(pairs)}); _describe value items; return"
        values.append(f"        {_pattern(places)}) {offer} ;;")
    words = []
    for node in root.all():
        items, flags = _described(_words_at(node)), _described(_flags_at(node))
        words.append(f"        {_quoted(node.name)}) items=({items}) flags=({flags}) ;;")
    return "\n".join(values), "\n".join(words)


def zsh(root: CommandNode) -> str:
    """Return the script for zsh, to be put on `fpath` or sourced after `compinit`."""
    values, words = _zsh_cases(root)
    return f"""\
#compdef {" ".join(PROGRAMS)}
# zsh completion for thv-llm, made by: thv-llm completion zsh
_thv_llm() {{
    local at="" last="${{words[CURRENT - 1]}}" i
    local -a items flags
    for ((i = 2; i < CURRENT; i++)); do
        case "${{at:+$at }}${{words[i]}}" in
        {_pattern([node.name for node in root.all() if node.path])}) at="${{at:+$at }}${{words[i]}}" ;;
        esac
    done
    if [[ $PREFIX == --*=* ]]; then
        last="${{PREFIX%%=*}}"
        compset -P '*='
    fi
    case "${{at:+$at }}$last" in
{values}
    esac
    case "$at" in
{words}
    esac
    if [[ $PREFIX == -* ]] || (( ! $#items )); then
        _describe option flags
    else
        _describe command items
    fi
}}
if [[ ${{funcstack[1]}} == _thv-llm ]]; then
    _thv_llm "$@"
else
    compdef _thv_llm {" ".join(PROGRAMS)}
fi
"""


def fish(root: CommandNode) -> str:
    """Return the script for fish."""
    paths = " ".join(_fish_quoted(node.name) for node in root.all() if node.path)
    lines = [
        "# fish completion for thv-llm, made by: thv-llm completion fish",
        "function __thv_llm_at",
        "    set -l typed (commandline -opc)",
        "    set -l at ''",
        "    for word in $typed[2..-1]",
        f'        contains -- (string trim -- "$at $word") {paths}',
        '        and set at (string trim -- "$at $word")',
        "    end",
        '    test "$at" = "$argv[1]"',
        "end",
    ]
    lines += [f"complete -c {PROGRAMS[0]} {line}" for line in ("-f", *_all_fish_lines(root))]
    lines += [f"complete -c {program} -w {PROGRAMS[0]}" for program in PROGRAMS[1:]]
    return "\n".join(lines) + "\n"


def _all_fish_lines(root: CommandNode) -> Iterator[str]:
    for node in root.all():
        yield from _fish_lines(node)


def _fish_lines(node: CommandNode) -> Iterator[str]:
    here = f"-n {_fish_quoted('__thv_llm_at ' + _fish_quoted(node.name))}"
    for word, about in _words_at(node):
        yield f"{here} -a {_fish_quoted(word)}" + (f" -d {_fish_quoted(about)}" if about else "")
    for option in node.options:
        for flag in option.flags:
            parts = [here, f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"]
            if option.takes_value:
                parts.append(
                    "-r -F" if option.takes_file else f"-x -a {_fish_quoted(' '.join(option.values))}"
                )
            yield " ".join([*parts, f"-d {_fish_quoted(option.about(flag))}"])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def powershell(root: CommandNode) -> str:
    """Return the script for PowerShell; where it offers nothing, PowerShell offers files.

    In ASCII: what programs print, and profiles, it reads in the encoding of the machine.
    """
    nodes = [
        f"        {_single_quoted(node.name)} = @(@({_pairs(_words_at(node))}), @({_pairs(_flags_at(node))}))"
        for node in root.all()
    ]
    values = [
        f"        {_single_quoted(place)} = @({_pairs([(value, '') for value in option.values])})"
        for places, option in _with_value(root)
        for place in places
    ]
    script = f"""\
# PowerShell completion for thv-llm, made by: thv-llm completion powershell
Register-ArgumentCompleter -Native -CommandName {", ".join(map(_single_quoted, PROGRAMS))} -ScriptBlock {{
    param($word, $ast, $cursor)
    $nodes = @{{
{chr(10).join(nodes)}
    }}
    $values = @{{
{chr(10).join(values)}
    }}
    $at = ''
    $last = ''
    foreach ($element in ($ast.CommandElements | Select-Object -Skip 1)) {{
        if ($element.Extent.EndOffset -ge $cursor) {{ break }}
        $last = $element.Extent.Text
        if ($nodes.ContainsKey("$at $last".Trim())) {{ $at = "$at $last".Trim() }}
    }}
    $found = $nodes[$at][0]
    if ("$word".StartsWith('-') -or $found.Count -eq 0) {{ $found = $nodes[$at][1] }}
    if ($values.ContainsKey("$at $last".Trim())) {{ $found = $values["$at $last".Trim()] }}
    foreach ($line in $found) {{
        $name, $about = $line -split "`t", 2
        if ($name.StartsWith("$word")) {{
            [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $about)
        }}
    }}
}}
"""
    return "".join(ASCII.get(character, character) for character in script)


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """Return words with their help after a tab; PowerShell wants some help for each."""
    return ", ".join(
        f'"{_in_double_quotes(word)}`t{_in_double_quotes(about or word)}"' for word, about in pairs
    )


def _in_double_quotes(text: str) -> str:
    return text.replace("`", "``").replace('"', '`"').replace("$", "`$")


def _single_quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish, "powershell": powershell}
