"""How long turns may be, and long texts in pieces that fit."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from rxlm.data.templates import InteractionTokens
from rxlm.data.tokenizer import encode_text

LONGEST_TOKEN = 12
"""Characters of which a token has fewer on the average, in any text that is worth a look."""


class TooLongError(ValueError):
    """A message that no turn has room for."""


@dataclass(frozen=True)
class Lengths:
    """Counts tokens and cuts texts.

    Args:
        tokenizer: the model's. tokens: the form of a turn. limit: tokens of a turn, at most.
    """

    tokenizer: PreTrainedTokenizerFast
    tokens: InteractionTokens
    limit: int

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return len(encode_text(self.tokenizer, text))

    def room(self, answer: int) -> int:
        """Return the tokens that a query may take beside an answer of so many."""
        return self.limit - len(self.tokens.before_query) - len(self.tokens.before_answer) - answer - 1

    def check(self, query: str) -> None:
        """Raise `TooLongError` unless there is room for the query and an answer."""
        room, count = self.room(1), self.count(query)
        if count > room:
            raise TooLongError(f"The message takes {count} tokens; a turn of this model has room for {room}.")

    def fitting(self, query: str, answer: str) -> list[tuple[str, str]]:
        """Return an exchange as exchanges that fit in turns: a long query and a long answer come in pieces."""
        room = self.room(0)
        if self.count(query) + self.count(answer) <= room:
            return [(query, answer)]
        queries, answers = self.pieces(query, room // 2), self.pieces(answer, room // 2)
        rest = [("", each) for each in answers[1:]]
        return [*((each, "") for each in queries[:-1]), (queries[-1], answers[0]), *rest]

    def pieces(self, text: str, room: int) -> list[str]:
        """Return a text in pieces of at most so many tokens, cut at spaces where there are some."""
        pieces = []
        while True:
            window = text[: room * LONGEST_TOKEN]
            ids = encode_text(self.tokenizer, window)
            if len(ids) <= room:
                head = window
                if len(window) == len(text):
                    return [*pieces, text]
            else:
                head = self._beginning(window, ids[:room])
            pieces.append(head)
            text = text[len(head) :]

    def _beginning(self, text: str, ids: list[int]) -> str:
        """Return as much of the beginning of a text as so many of its tokens are."""
        while True:
            head = str(self.tokenizer.decode(ids))
            if text.startswith(head) or len(ids) == 1:
                break
            ids = ids[:-1]  # half a character, or what the tokenizer writes in another way
        if not head or not text.startswith(head):
            head = text[: max(1, len(ids))]
        space = max(head.rfind(" "), head.rfind("\n"))
        return head[: space + 1] if space > len(head) // 2 else head
