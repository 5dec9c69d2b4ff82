"""`rxlm memory`: what saved memories hold."""

from pathlib import Path
from typing import Annotated

import tyro

from rxlm.cli.chat import style_of
from rxlm.cli.screen import Screen
from rxlm.memory import MemoryState
from rxlm.memory.tensor_file import read_tensors
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.conversation_file import SavedConversation
from rxlm.upcycling.loading import open_model


def show(file: Annotated[Path, tyro.conf.Positional], /, *, model: str | None = None) -> None:
    """Show the size of a saved memory and, of a memory of tokens, which tokens of the conversation it keeps.

    Args:
        file: a conversation that `/save` of `rxlm chat` wrote, or a memory that `MemoryState.save` wrote.
        model: the model of the conversation, which shows the transcript coloured by how many heads keep each token.
    """
    states = _memories(file)
    screen = Screen()
    for line in states[-1].describe(states[-2] if len(states) > 1 else None):
        print(line)
    if model is None:
        return
    conversation = Conversation(open_model(model))
    conversation.load(file)
    pieces = conversation.kept_tokens()
    if pieces is None:
        return
    print("kept by all heads (bold), by most, by few (dim), by none (struck out):")
    for piece, share in pieces:
        screen.show(piece, style_of(share))
    screen.show("\n")


def diff(earlier: Annotated[Path, tyro.conf.Positional], later: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Show what a saved memory has that an earlier one has not.

    Args:
        earlier: a saved conversation or memory.
        later: another one of the same model.
    """
    before, after = _memories(earlier)[-1], _memories(later)[-1]
    if before.form != after.form:
        raise ValueError(f"{earlier} holds a memory of form {before.form}, and {later} one of {after.form}.")
    for line in after.describe(before):
        print(line)
    print(f"changed: {float(after.change(before, 'mse')[0]):.4g}")


def _memories(file: Path) -> list[MemoryState]:
    """Return the memories of a file, oldest first."""
    if not file.is_file():
        raise ValueError(f"There is no file {file}.")
    try:
        names = read_tensors(file)[0]
    except ValueError as error:
        raise ValueError(f"{file} is no saved memory or conversation: {error}.") from error
    if any(name == "conversation" or name.startswith("memory.") for name in names):
        saved = SavedConversation.read(file)
        return [saved.memories[count] for count in sorted(saved.memories)]
    return [MemoryState.load(file)]
