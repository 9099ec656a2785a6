"""Find, plan, apply and undo the wiring of any tool; knows none by name.

`find` looks for the tools of the table; `plan` works for any of them (`by_name`), also for one that
was not found, and writes nothing; `apply` carries plans out, `revert` takes them back; `diff` and
`diff_of_undo` show either one beforehand.

Rule 1: what is written can be undone after a kill at any instant. For each file: the intent is durable
        in the undo record, then the file is written, then the record is marked done.
Rule 2: the plan is made anew under the lock, because another setup or the tool itself can have written
        since it was shown.
Rule 3: a file that gets our local key becomes private, if it is the user's own and under the home
        directory; what others could do with it is in the undo record.
Rule 4: a diff can be shown to anyone. A settings file can hold keys of the user's, in lines of context
        as well as in changed ones, so every value that looks like a secret is masked, of any owner:
        by the name before it in its line, by its well-known shape, or because it is our own local key.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from thv_llm import files, state
from thv_llm.errors import ThvLlmError, UsageError, did_you_mean, shown
from thv_llm.paths import Paths
from thv_llm.secret import Secret
from thv_llm.state import State, WiredFile, WiredTool
from thv_llm.tools import undo
from thv_llm.tools.desired import Condition, Drift, Plan, PlannedFile, Unrecorded, drift, plan, unrecorded
from thv_llm.tools.machine import Detection, How, Place, detect, loopback_through_proxy
from thv_llm.tools.model import Mode, Text, Tool, Values
from thv_llm.tools.registry import TOOLS
from thv_llm.tools.undo import LOCK_TIMEOUT_S, Done, Undone, lock_path, repeatedly, revert, revert_tool
from thv_llm.tools.values import (
    Absent,
    has_key,
    is_told_apart,
    mode,
    needs_program,
    resolve,
    takes_models,
    token_command,
)
from thv_llm.tools.values import of as values_of

__all__ = (
    "TOOLS",
    "Applied",
    "Condition",
    "Detection",
    "Done",
    "Drift",
    "How",
    "Mode",
    "Place",
    "Plan",
    "Tool",
    "Undone",
    "Unrecorded",
    "Values",
    "apply",
    "by_name",
    "diff",
    "diff_of_undo",
    "drift",
    "find",
    "has_key",
    "is_told_apart",
    "loopback_through_proxy",
    "mode",
    "needs_program",
    "not_configured",
    "plan",
    "preview",
    "revert",
    "snippet",
    "takes_models",
    "unrecorded",
    "values_of",
)


MASK = "***"

_SECRET_NAME = (
    r"api[-_]?key|token|secret|password|passwd|passphrase|credential|authorization|bearer|cookie|session"
    r"|keys?(?![\w.-])"
)
# A line can be long: no word is tried from each of its letters, and what a repetition gives back
# nothing else can take.
_NAMED = re.compile(
    rf"""(?ix)
    ((?<![\w.-]) (?=[\w.-]*?(?:{_SECRET_NAME})) [\w.-]+ ["']? \s* [:=] \s*)  # the name of the value
    (?: "(?!"") ([^"\\]*(?:\\.[^"\\]*)*) "
      | '(?!'') ([^']*) '
      | (["'].*)  # ends in another line
      | ((?:(?:bearer|basic)\ +|(?!(?:bearer|basic)\ ))  # bare
         [^\s"'\[{{,}}\]] (?:[^\s,}}\]]|[,}}\]]+(?![\s"',}}\]]|$))*)
    )
    """
)
_SHAPED = re.compile(
    r"(?:\bthv-[A-Za-z0-9_-]{40,}|\b(?:sk|pk|rk|gh[opsu]|github_pat|glpat|xox[abprs]|AIza|AKIA|eyJ)[-_A-Za-z0-9]{12}[-_.A-Za-z0-9]*"
    r"|(?<=Bearer )[^\s\"']+"
    r"|(?<=://)[^\s/:@\"']*:[^\s/@\"']+(?=@))"
)
_PLAIN_VALUE = re.compile(r"true|false|null|~|[0-9_.]{1,8}", re.IGNORECASE)
"""Values of such names that are no secrets: switches, numbers of seconds or tokens."""


def find(place: Place, tools: Sequence[Tool] = TOOLS) -> tuple[Detection, ...]:
    """Return the tools that are on this machine, in the order of the table."""
    return tuple(found for tool in tools if (found := detect(tool, place)))


def not_configured(place: Place, known: State) -> tuple[Tool, ...]:
    """Return the tools that setup would configure and has not, such as those installed since."""
    can = (Mode.DIRECT, Mode.PROXY)
    sure = (one.tool for one in find(place) if not one.directory_only)
    return tuple(tool for tool in sure if mode(tool) in can and not known.tool(tool.id))


def by_name(name: str) -> Tool:
    """Return the entry of that id.

    Raises:
        UsageError: there is none; the message lists the ids.
    """
    for tool in TOOLS:
        if tool.id == name:
            return tool
    known = [tool.id for tool in TOOLS]
    why = did_you_mean(name, known) or f"known are: {', '.join(known)}"
    raise UsageError(f"no tool is called {shown(name)}", why=why, next_step="thv-llm tools")


@dataclass(frozen=True)
class Applied:
    """What became of one plan.

    Attributes:
        lines: what was done, in the past tense, with paths; empty when all was right already.
        error: why the tool is not wired (or not wired anew); its files are as before then.
    """

    plan: Plan
    lines: tuple[str, ...] = ()
    error: ThvLlmError | None = None

    @property
    def tool(self) -> Tool:
        """The tool that it is about."""
        return self.plan.tool


def apply(plans: Sequence[Plan], paths: Paths) -> tuple[Applied, ...]:
    """Carry out plans, in order; one tool's failure never stops another.

    Raises:
        ThvLlmError: another setup or teardown is at work, or the undo record cannot be read.
    """
    if not plans:
        return ()
    with files.lock(lock_path(paths), timeout_s=LOCK_TIMEOUT_S, what="the tools' settings"):
        return tuple(_carry_out(planned, paths) for planned in plans)


def _carry_out(planned: Plan, paths: Paths) -> Applied:
    before = state.load(paths.state).tool(planned.tool.id)
    try:
        return repeatedly(lambda: _try(planned, paths))
    except ThvLlmError as error:
        if before is None:
            _take_back(planned, paths)
        return Applied(planned, error=error)


def _try(planned: Plan, paths: Paths) -> Applied:
    known = state.load(paths.state)
    fresh = plan(planned.tool, planned.place, planned.values, known, take_over=planned.take_over)
    lines = tuple(line for file in fresh.files for line in _write(fresh, file, paths))
    wired = known.tool(planned.tool.id)
    if wired and wired.models != planned.values.models:
        state.update(paths, lambda old: _with_models(old, planned))
    return Applied(fresh, lines)


def _with_models(old: State, planned: Plan) -> State:
    wired = old.tool(planned.tool.id)
    return state.with_tool(old, replace(wired, models=planned.values.models)) if wired else old


def _write(planned: Plan, file: PlannedFile, paths: Paths) -> tuple[str, ...]:
    if file.new is None or file.after is None:
        return ()
    after, denied = file.after, _to_deny(planned, file.path, file.after)
    if denied:
        file = replace(file, record=replace(file.record, denied=denied))
    files.remove_temporary(file.record.temporary, file.path)
    temporary = files.temporary_name(file.path)
    _record(planned, replace(file.intent, temporary=temporary), paths)
    if after != file.before:
        files.private_directory(os.path.dirname(file.path))
        files.replace(file.path, after, expected=file.before, denied=denied, temporary=temporary)
    _record(planned, file.settled, paths)
    if after == file.before:
        return ()
    private = " (private now)" if denied else ""
    return (f"{'created' if file.before is None else 'changed'} {file.path}{private}",)


def _to_deny(planned: Plan, path: str, after: bytes) -> int:
    """Return the permissions that a file must lose because our key comes into it."""
    holds_key = planned.values.local_key.reveal().encode() in after
    return files.shared(path) if holds_key and planned.place.is_in_home(path) else 0


def _record(planned: Plan, file: WiredFile, paths: Paths) -> None:
    def add(old: State) -> State:
        known = old.tool(planned.tool.id)
        others = list(known.files) if known else []
        places = [index for index, other in enumerate(others) if other.path == file.path]
        if places:
            others[places[0]] = file
        else:
            others.append(file)
        models = planned.values.models
        tool = known or WiredTool(planned.tool.id, "", (), models)
        return state.with_tool(old, replace(tool, mode=planned.mode.value, files=tuple(others)))

    state.update(paths, add)


def _take_back(planned: Plan, paths: Paths) -> None:
    """Leave no tool wired by half."""
    record = state.load(paths.state).tool(planned.tool.id)
    if record:
        revert_tool(paths, planned.place, record, (planned.tool,))


def diff(planned: Plan) -> str:
    """Return what a plan would change, secrets masked; "" if nothing."""
    key = planned.values.local_key
    public = [text for text in _own_texts(planned.tool, planned.values) if key.reveal() not in text]
    return "".join(
        unified(file.before, file.after, file.path, local_key=key, public=public) for file in planned.files
    )


def _own_texts(tool: Tool, values: Values) -> Iterator[str]:
    """Yield every text that we write for a tool: ours are shown, whatever the name of their key."""
    for edit in tool.edits:
        for template in edit.templates:
            value = resolve(template, values)
            yield from () if isinstance(value, Absent) else undo.texts(value)


def diff_of_undo(undone: Undone, values: Values) -> str:
    """Return what undoing changes in one file, secrets masked."""
    values = values.of(undone.tool)
    public = (values.helper_path, shlex.quote(values.helper_path), token_command(values))
    known = values.local_key
    return unified(undone.before, undone.after, undone.path, local_key=known, public=public)


def preview(tool: Tool, place: Place, values: Values) -> tuple[tuple[str, str], ...]:
    """Return each file's path with what we would write into an empty one. It holds the local key."""
    planned = plan(tool, place, values, State(), read=lambda _: None)
    return tuple((file.path, (file.after or b"").decode()) for file in planned.files)


def snippet(tool: Tool, values: Values) -> str:
    """Return what to paste into a tool that setup cannot write to; "" if there is nothing."""
    values = replace(values.of(tool.id), models=values.models or ("MODEL",))
    text = resolve(tool.snippet or Text(), values)
    return text if isinstance(text, str) else ""


def unified(
    before: bytes | None, after: bytes | None, path: str, *, local_key: Secret, public: Iterable[str] = ()
) -> str:
    """Return the masked diff of one file; None = no file.

    Args:
        public: texts of ours that are no secret, whatever the name of their key (the helper's path).
    """
    names = ("/dev/null" if before is None else path, "/dev/null" if after is None else path)
    lines = difflib.unified_diff(_lines(before), _lines(after), *names, lineterm="")
    known = frozenset(public)
    return "".join(masked(line, local_key=local_key, public=known) + "\n" for line in lines)


def masked(line: str, *, local_key: Secret, public: frozenset[str] = frozenset()) -> str:
    """Return one line of a settings file without secrets."""
    if local_key:
        line = line.replace(local_key.reveal(), MASK)
    return _SHAPED.sub(MASK, _NAMED.sub(lambda found: _hidden(found, public), line))


def _hidden(found: re.Match[str], public: frozenset[str]) -> str:
    value = next(filter(None, found.groups()[1:]), "")
    if not value or value in public or _PLAIN_VALUE.fullmatch(value):
        return found[0]
    return found[1] + found[0][len(found[1]) :].replace(value, MASK)


def _lines(data: bytes | None) -> list[str]:
    """Split a file into lines that a terminal can show; a missing end of the last one is told."""
    *lines, last = (data or b"").decode("utf-8", "replace").split("\n")
    shown = [_printable(line.removesuffix("\r")) for line in lines]
    return [*shown, _printable(last) + "\n\\ No newline at end of file"] if last else shown


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line)
