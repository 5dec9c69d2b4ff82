"""Text of one answer while it is generated: the thought and the answer told apart, and stop texts found."""

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.rxt.config import RxTAlphaTokenizerConfig


class Piece(NamedTuple):
    """A piece of text, of the thought or of the answer."""

    text: str
    is_thought: bool


class AnswerWriter:
    """Turns the tokens of one answer into pieces of text, without special tokens.

    An answer that begins with [T], by the prompt's end or its own first token, is a thought up to [A]. `answer` and
    `thought` (None where there was none) grow with the tokens.

    Args:
        tokenizer: the model's.
        tokens: its special tokens.
        appended: the tokens that the prompt ends with.
        stop: texts at which the answer ends; what may be the beginning of one is held back until it is known.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        tokens: RxTAlphaTokenizerConfig,
        appended: Sequence[int],
        stop: Sequence[str] = (),
    ) -> None:
        self.answer = ""
        self.thought: str | None = None
        self.stop = tuple(stop)
        self.is_stopped = False
        self.kept_tokens: int | None = None
        """Tokens that the answer keeps where a stop text ended it: as many as its text needs."""
        self._tokens = tokens
        self._decoder = StreamDecoder(tokenizer, skip_special_tokens=True)
        self._is_open = False
        self._is_thinking = False
        self._is_answer_from_prompt = bool(appended) and appended[0] != tokens.think_token_id
        self._pieces: list[Piece] = []
        self._held = ""
        self._ends: list[int] = []
        """Characters of the answer that are there after each token; -1 before it begins."""
        if appended:
            self._open(appended[0])

    def push(self, token: int) -> None:
        """Take the next token."""
        if not self._is_open:
            self._open(token)
        if self._is_thinking and token == self._tokens.answer_token_id:
            self._add(self._decoder.flush())
            self._is_thinking = False
        else:
            self._add(self._decoder.push(token))
        self._ends.append(-1 if self._is_thinking else len(self.answer) + len(self._held))

    def take(self) -> list[Piece]:
        """Return the pieces that were completed since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def flush(self) -> None:
        """Complete the text: what was held back as half a character or half a stop text belongs to it."""
        if not self.is_stopped:
            self._add(self._decoder.flush())
            self._say(self._held)
            self._held = ""

    def _open(self, token: int) -> None:
        self._is_open = True
        self._is_thinking = token == self._tokens.think_token_id
        if self._is_thinking:
            self.thought = ""

    def _add(self, text: str) -> None:
        if not text:
            return
        if self._is_thinking:
            self.thought = (self.thought or "") + text
            self._pieces.append(Piece(text, True))
            return
        text = self._held + text
        # The text that is complete first ends the answer, wherever tokens end.
        found = [(place + len(stop), place) for stop in self.stop if (place := text.find(stop)) >= 0]
        if found:
            self._say(text[: min(found)[1]])
            self.is_stopped, self._held = True, ""
            begun = 0 if self._is_answer_from_prompt else -1
            ends = enumerate([begun, *self._ends])
            self.kept_tokens = next((n for n, end in ends if end >= len(self.answer)), len(self._ends) + 1)
            return
        held = max((_overlap(text, stop) for stop in self.stop), default=0)
        self._held = text[len(text) - held :]
        self._say(text[: len(text) - held])

    def _say(self, text: str) -> None:
        if text:
            self.answer += text
            self._pieces.append(Piece(text, False))


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((count for count in range(most, 0, -1) if stop.startswith(text[-count:])), 0)
