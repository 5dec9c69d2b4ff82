"""The `rxlm` command: finds the subcommand, parses its options, and prints errors of the user as sentences."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """A subcommand: the function that runs it, imported when needed, and what it does in one line."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "quickstart": Command("rxlm.cli.quickstart", "quickstart", "Train a small model and see what it remembers."),
    "chat": Command("rxlm.cli.chat", "chat", "Talk with a model; its memory is the conversation."),
    "info": Command("rxlm.cli.info", "info", "Show a model's parameters, memory and costs."),
    "train": Command("rxlm.cli.train", "train", "Train a model by a recipe."),
    "report": Command("rxlm.cli.report", "report", "Draw what a run logged, or compare several runs."),
    "bench memory": Command("rxlm.cli.bench", "memory", "Measure what a model remembers of a conversation."),
    "bench compare": Command("rxlm.cli.bench", "compare", "Measure several models on the same dialogues."),
    "convert": Command("rxlm.cli.convert", "convert", "Rewrite a published checkpoint in rxlm's format."),
    "upcycle": Command("rxlm.cli.upcycle", "upcycle", "Turn a pretrained chat model into a Reactive Transformer."),
    "llm from-gqa": Command("rxlm.cli.llm", "from_gqa", "Turn a Llama- or Qwen-style model into one with SQA."),
    "tokenizer train": Command("rxlm.cli.tokenizer", "train", "Train a byte-level BPE tokenizer."),
}

USAGE = """usage: rxlm COMMAND [options]

Reactive Transformers: language models whose conversation lives in a fixed-size memory.

commands:
{commands}

`rxlm COMMAND --help` explains a command; `rxlm --version` prints the version."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1 after a user's error, 2 for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        from rxlm import __version__

        print(f"rxlm {__version__}")
        return 0
    name = _command_name(words)
    if name is None:
        return _unknown(words)
    return _run(name, words[len(name.split()) :])


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
    return 2


def _run(name: str, words: list[str]) -> int:
    import tyro

    command = COMMANDS[name]
    module = import_module(command.module)
    function = getattr(module, command.function)
    form = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone)
    try:
        if hasattr(module, "rewrite"):
            words = module.rewrite(words)
        tyro.cli(function, args=words, prog=f"rxlm {name}", config=form)
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError, ImportError) as error:
        print(f"rxlm {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0
