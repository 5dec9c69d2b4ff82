"""How a stateless language model is shown a conversation: its template, and how much of the history it gets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from transformers import PreTrainedTokenizerBase

from rxlm.data.chat_rendering import render_chat

PastTurns = Sequence[tuple[str, str]]
"""Queries with their answers, oldest first."""

TemplateName = Literal["auto", "chat", "plain"]


class Template(Protocol):
    """Writes a conversation as the text that a model continues."""

    @property
    def ends_with_line(self) -> bool:
        """Whether an answer ends with its line."""

    def prompt(self, history: PastTurns, query: str) -> list[int]:
        """Return the ids of a conversation up to where the answer to `query` begins."""

    def answer(self, text: str) -> list[int]:
        """Return the ids of an answer as it follows the prompt."""


class PlainTemplate:
    """`User: query`, a new line, `Assistant: answer`: for models without a chat template."""

    ends_with_line = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def prompt(self, history: PastTurns, query: str) -> list[int]:
        """Return the ids of a conversation up to `Assistant:`."""
        lines = [f"User: {said}\nAssistant: {answer}\n" for said, answer in history]
        return list(self.tokenizer("".join(lines) + f"User: {query}\nAssistant:")["input_ids"])

    def answer(self, text: str) -> list[int]:
        """Return the ids of an answer after its space."""
        return list(self.tokenizer(f" {text}", add_special_tokens=False)["input_ids"])


class ChatTemplate:
    """The chat template that comes with the tokenizer."""

    ends_with_line = False

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def prompt(self, history: PastTurns, query: str) -> list[int]:
        """Return the ids of a conversation up to where the assistant's message begins."""
        messages = []
        for said, answer in history:
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
        messages.append({"role": "user", "content": query})
        text = render_chat(self.tokenizer, messages, opens_answer=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, text: str) -> list[int]:
        """Return the ids of an answer."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def choose_template(name: TemplateName, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template of this name; "auto" is the tokenizer's own where it has one."""
    has_chat = tokenizer.chat_template is not None
    if name == "chat" and not has_chat:
        raise ValueError("template 'chat' was asked for, and the tokenizer has no chat template: use 'plain'.")
    return ChatTemplate(tokenizer) if has_chat and name != "plain" else PlainTemplate(tokenizer)


@dataclass(frozen=True)
class History:
    """Which part of a conversation the model is given beside the query.

    Fields:
        kind: "full", "none", the last `size` "turns", or as many of the last turns as fit `size` "tokens".
        size: number of turns or tokens.
    """

    kind: Literal["full", "none", "turns", "tokens"] = "full"
    size: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "full", "none", "turns:8" or "tokens:512"."""
        kind, _, size = text.partition(":")
        if kind in ("full", "none") and not size:
            return cls(kind)
        if kind in ("turns", "tokens") and size.isdecimal() and int(size) > 0:
            return cls(kind, int(size))
        raise ValueError(f"history must be full, none, turns:N or tokens:N (N above 0), got {text!r}.")

    def __str__(self) -> str:
        return f"{self.kind}:{self.size}" if self.size else self.kind

    def prompt(self, template: Template, turns: PastTurns, query: str, limit: int | None) -> list[int]:
        """Return the prompt with as many of the last turns as this history and `limit` tokens allow.

        A query that does not fit alone loses its beginning.
        """
        most = {"full": len(turns), "none": 0, "turns": min(self.size, len(turns)), "tokens": len(turns)}[self.kind]
        alone = template.prompt((), query)
        longest = len(alone) + self.size if self.kind == "tokens" else None
        longest = min(bound for bound in (longest, limit, 2**62) if bound is not None)

        def with_last(count: int) -> list[int]:
            return template.prompt(turns[len(turns) - count :], query) if count else alone

        ids = with_last(most)
        if len(ids) <= longest:
            return ids
        fits, too_many = 0, most  # the longest history that fits, by bisection
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (middle, too_many) if len(with_last(middle)) <= longest else (fits, middle)
        return with_last(fits)[-longest:]
