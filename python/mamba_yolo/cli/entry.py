"""`mamba-yolo`: find the command, read its options, run it, turn errors into one line and an exit code.

Exit codes: 0 done, 1 a user's or our error, 2 unknown command or option, 130 interrupted, 141 nobody reads.
Test: tests/cli/test_entry.py.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import itertools
import os
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

from mamba_yolo.checks import unknown_name
from mamba_yolo.cli.commands import COMMANDS, SUITES, Command
from mamba_yolo.cli.console import Outcome, complain, show, show_json
from mamba_yolo.cli.keyvalue import rewrite
from mamba_yolo.errors import ConfigError, MambaYoloError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    debug = "--debug" in words
    try:
        code = _dispatch([word for word in words if word != "--debug"])
        sys.stdout.flush()
    except KeyboardInterrupt:
        complain("mamba-yolo: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader has gone: let nothing more be written, not even by the interpreter's last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except MambaYoloError as error:
        return _failed(str(error), EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR, debug=debug)
    except Exception as error:  # noqa: BLE001  (the last line of defence: one line instead of a traceback)
        hint = "" if debug else "; run with --debug to see where"
        return _failed(f"unexpected {type(error).__name__}: {error}{hint}", EXIT_ERROR, debug=debug)
    return code


def _failed(line: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    complain(f"mamba-yolo: error: {line}")
    return code


def _dispatch(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    name = "version" if words[0] == "--version" else words[0]
    if name not in COMMANDS:
        raise UsageError(unknown_name(name, COMMANDS).replace("option", "command", 1))
    if "-h" in words[1:] or "--help" in words[1:]:
        _parse(name, _command(name, words), ["--help"])
        return 0
    command = _command(name, words)
    config = _parse(name, command, rewrite(words[1:], command.config, command.num_bare))
    module = _loaded(command.module)
    wants_json = getattr(config, "json", False)
    with contextlib.redirect_stdout(sys.stderr) if wants_json else contextlib.nullcontext():
        outcome: Outcome = module.run(config)
    (show_json if wants_json else show)(outcome)
    return outcome.code


def _loaded(name: str) -> Any:
    """A module, imported without looking for garbage: there is none, and the search is a fifth of the time of torch."""
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if is_collecting:
            gc.enable()


def _command(name: str, words: Sequence[str]) -> Command:
    """The command of a name; `benchmark` is one of its suites."""
    if name != "benchmark":
        return COMMANDS[name]
    suite = "latency"
    for word, following in itertools.pairwise([*words, ""]):
        option, assigned, value = word.removeprefix("--").partition("=")
        if option == "suite":
            suite = value if assigned else following
    if suite not in SUITES:
        raise UsageError(unknown_name(suite, SUITES).replace("option", "suite", 1))
    return SUITES[suite]


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mamba-yolo COMMAND [name=value | --name value ...]",
            "",
            *lines,
            "",
            "mamba-yolo COMMAND --help lists the options of a command; --debug shows where an error comes from.",
            "First steps: mamba-yolo demo",
            "",
        ]
    )


def _parse(name: str, command: Command, words: list[str]) -> Any:
    """Options from uniform words; help is printed by tyro, its framed errors become one line."""
    import tyro  # 0.14 s, and not needed for the list of commands

    framed = io.StringIO()
    try:
        with contextlib.redirect_stderr(framed):
            return tyro.cli(
                command.config,
                prog=f"mamba-yolo {name}",
                description=f"{command.summary}. Options: name=value or --name value.",
                args=words,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            return None  # help
        raise ConfigError(f"{_unframed(framed.getvalue())} (see mamba-yolo {name} --help)") from None


def _unframed(text: str) -> str:
    """The message of a framed error: what stands between the title and the next rule."""
    lines = [line.strip("│| ") for line in text.splitlines()[1:]]
    under_title = itertools.dropwhile(_is_rule, lines)
    message = " ".join(itertools.takewhile(lambda line: not _is_rule(line), under_title))
    return re.sub(r"^Error parsing ([a-zA-Z]\w*: )?", "", message)


def _is_rule(line: str) -> bool:
    return set(line) <= set("─-╭╮╰╯+")
