"""`rxlm data check`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated

import tyro

from rxlm.cli.errors import printable
from rxlm.cli.output import Output
from rxlm.cli.results import rich_table
from rxlm.data.conversation_check import ConversationCheck, Length, Lengths, check_conversations
from rxlm.data.dialogue_forms import read_conversations
from rxlm.data.records import Interaction

PLACES = 5
"""So many places are shown of what is not used."""


def check(
    paths: Annotated[tuple[str, ...], tyro.conf.Positional], /, *, model: str | None = None, turns: int = 3
) -> None:
    """Show what rxlm understands of conversations of yours, before you train with them.

    Prints how many records, turns and roles there are, how long turns are, what would be skipped or cut and why,
    duplicates, and the first turns as a model reads them. docs/your-conversations.md lists the forms that are read.

    Args:
        paths: files, folders, patterns or ids of hub datasets.
        model: the model that you mean to train (folder, hub id or GGUF file): lengths are in its tokens, against its
            limit, and turns are shown in its form.
        turns: so many turns are shown.
    """
    if not paths:
        raise ValueError("name at least one file, folder, pattern or hub dataset.")
    read = read_conversations(paths, bad_records="skip")
    length, limit, render = _of_model(model) if model else (_characters, None, _plain)
    found = check_conversations(read, length, limit)
    console = Output()
    unit = "tokens" if model else "characters"
    console.print(rich_table(", ".join(paths), ("what", "number"), _rows(found, unit, limit)))
    for what, places in _not_used(found, limit):
        if places:
            _say(f"\n{len(places):,} {what}:", *places[:PLACES], *(["..."] if len(places) > PLACES else []))
    shown = [turn for dialogue in read.dialogues for turn in dialogue.turns][:turns]
    if shown:
        _say(f"\nThe first turns{' as the model reads them' if model else ''}:", *map(render, shown))


def _rows(found: ConversationCheck, unit: str, limit: int | None) -> list[tuple[str, str]]:
    return [
        ("conversations", f"{found.conversations:,}"),
        ("records that cannot be read", f"{len(found.skipped):,}"),
        ("turns", f"{found.turns:,}"),
        ("answers to learn", f"{found.learnt:,}"),
        ("answers with a thought", f"{found.thoughts:,}"),
        *((f"messages of {role!r}", f"{count:,}") for role, count in sorted(found.roles.items())),
        ("turns of a conversation", _range(found.turns_each)),
        (f"{unit} of a turn", _range(found.turn_lengths)),
        *([] if limit is None else [("tokens of a turn that the model takes", f"{limit:,}")]),
        (f"{unit} of a conversation", _range(found.conversation_lengths)),
    ]


def _range(lengths: Lengths) -> str:
    return f"{lengths.shortest:,} to {lengths.longest:,}, half of them up to {lengths.middle:,}"


def _not_used(found: ConversationCheck, limit: int | None) -> Sequence[tuple[str, list[str]]]:
    return (
        ("records cannot be read (training stops, or leaves them out with --bad-records skip)", found.skipped),
        ("runs of messages are part of no turn and left out", found.left_out),
        (f"turns are longer than {limit} tokens and would be cut", found.too_long),
        ("conversations are duplicates", found.duplicates),
    )


def _of_model(name: str) -> tuple[Length, int, Callable[[Interaction], str]]:
    """Return what measures and writes a turn as a model takes it, and the length of its longest turn."""
    from rxlm.data.turn_tokenizer import TurnTokenizer
    from rxlm.upcycling.loading import open_model

    model = open_model(name)
    tokenizer, tokens = model.needed_tokenizer(), model.tokenizer_config
    whole = TurnTokenizer(tokenizer, tokens, max_tokens=1 << 40)

    def ids(turn: Interaction) -> tuple[int, ...]:
        return whole.encode(turn if tokens.think_token_id is not None else replace(turn, thought=None)).ids

    return lambda turn: len(ids(turn)), model.max_seq_len, lambda turn: str(tokenizer.decode(list(ids(turn))))


def _characters(turn: Interaction) -> int:
    return len(turn.query) + len(turn.thought or "") + len(turn.answer)


def _plain(turn: Interaction) -> str:
    return f"query>  {turn.query}\nanswer> {turn.answer}{'' if turn.is_reference else '  (said, and not learnt)'}"


def _say(*lines: str) -> None:
    print(printable("\n".join(lines)))
