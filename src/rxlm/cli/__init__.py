"""The `rxlm` command: finds the subcommand, parses its options, and prints errors of the user as sentences."""

import difflib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

from rxlm.cli.errors import Status, tell


class Command(NamedTuple):
    """A subcommand: the function that runs it, imported when needed, and what it does in one line."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "quickstart": Command("rxlm.cli.quickstart", "quickstart", "Train a small model and see what it remembers."),
    "chat": Command("rxlm.cli.chat", "chat", "Talk with a model; its memory is the conversation."),
    "serve": Command("rxlm.cli.serve", "serve", "Serve a model by OpenAI's interfaces, and a page to chat."),
    "keys add": Command("rxlm.cli.keys", "add", "Make an API key for a tenant of a server."),
    "keys list": Command("rxlm.cli.keys", "list_keys", "Show tenants, their keys' digests, limits and bytes stored."),
    "keys revoke": Command("rxlm.cli.keys", "revoke", "Revoke an API key by the beginning of its digest."),
    "keys limit": Command("rxlm.cli.keys", "limit", "Limit the tokens a minute and the bytes of a tenant."),
    "memory show": Command("rxlm.cli.memory", "show", "Show what a saved memory keeps."),
    "memory diff": Command("rxlm.cli.memory", "diff", "Show what changed between two saved memories."),
    "feedback export": Command("rxlm.cli.feedback", "export", "Write feedback on answers as preference records."),
    "info": Command("rxlm.cli.info", "info", "Show a model's parameters, memory and costs."),
    "train": Command("rxlm.cli.train", "train", "Train a model by a recipe."),
    "report": Command("rxlm.cli.report", "report", "Draw what a run logged, or compare several runs."),
    "data check": Command("rxlm.cli.data", "check", "Show what is understood of conversations of yours."),
    "bench memory": Command("rxlm.cli.bench", "memory", "Measure what a model remembers of a conversation."),
    "bench compare": Command("rxlm.cli.bench", "compare", "Measure several models on the same dialogues."),
    "bench reward": Command("rxlm.cli.bench_reward", "reward", "Measure a reward model, with its memory and without."),
    "convert": Command("rxlm.cli.convert", "convert", "Rewrite a published checkpoint in rxlm's format."),
    "upcycle": Command("rxlm.cli.upcycle", "upcycle", "Turn a pretrained chat model into a Reactive Transformer."),
    "export": Command("rxlm.cli.export", "export", "Write a model for a faster engine: weights of 8 or 4 bits."),
    "llm from-gqa": Command("rxlm.cli.llm", "from_gqa", "Turn a Llama- or Qwen-style model into one with SQA."),
    "tokenizer train": Command("rxlm.cli.tokenizer", "train", "Train a byte-level BPE tokenizer."),
}

USAGE = """usage: rxlm COMMAND [options]

Reactive Transformers: language models whose conversation lives in a fixed-size memory.

commands:
{commands}

`rxlm COMMAND --help` explains a command; `rxlm --version` prints the version.
An error is one line; with --debug it is a traceback, too."""

DEBUG = "--debug"
NARROWEST = 40
"""Columns that output is laid out for at least: in very few, tables and help take memory without end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status, one of `rxlm.cli.errors.Status`; nothing is raised."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in words
    words = [word for word in words if word != DEBUG]
    name = _command_name(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the terminal's encoding lacks must not end a command
    try:
        with _wide_enough():
            status = _status(name, words)
        if sys.stdout is not None:
            sys.stdout.flush()  # what the output refuses is told here, not after the end
    except (Exception, KeyboardInterrupt) as error:
        return tell(error, f"rxlm {name or ''}".rstrip(), debug=debug)
    return status


def _status(name: str | None, words: list[str]) -> int:
    try:
        return _overview(words) if name is None else _run(name, words[len(name.split()) :])
    except SystemExit as end:  # of tyro, after help and wrong options
        return end.code if isinstance(end.code, int) else Status.DONE


def _overview(words: list[str]) -> int:
    """Answer a command line that names no command."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return Status.DONE if words else Status.WRONG_COMMAND_LINE
    if words[0] == "--version":
        from rxlm import __version__

        print(f"rxlm {__version__}")
        return Status.DONE
    return _unknown(words)


def usage() -> str:
    """Return the overview of all commands."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return USAGE.format(commands="\n".join(lines))


def _command_name(words: list[str]) -> str | None:
    return next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)


def _unknown(words: list[str]) -> int:
    close = difflib.get_close_matches(" ".join(words[:2]), COMMANDS, n=1) or [
        name for name in COMMANDS if name.split()[0] == words[0]
    ]
    hint = f" Did you mean `rxlm {close[0]}`?" if close else ""
    print(f"rxlm: there is no command {words[0]!r}.{hint}\n\n{usage()}", file=sys.stderr)
    return Status.WRONG_COMMAND_LINE


def _run(name: str, words: list[str]) -> int:
    import tyro

    command = COMMANDS[name]
    module = import_module(command.module)
    function = getattr(module, command.function)
    form = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone)
    if hasattr(module, "rewrite"):
        words = module.rewrite(words)
    tyro.cli(function, args=words, prog=f"rxlm {name}", config=form)
    return Status.DONE


@contextmanager
def _wide_enough() -> Iterator[None]:
    """Let libraries see a terminal of at least NARROWEST columns."""
    if shutil.get_terminal_size().columns >= NARROWEST:
        yield
        return
    own = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(NARROWEST)
    try:
        yield
    finally:
        if own is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = own
