"""Text of one answer while it is generated, with the thought and the answer told apart."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.generation import Column


class Piece(NamedTuple):
    """A piece of text, of the thought or of the answer."""

    text: str
    is_thought: bool


class AnswerWriter:
    """Turns the columns of a single row into pieces of text, without special tokens.

    An answer that begins with [T], by the prompt's end or its own first token, is a thought up to [A].
    `columns` are those that belong to the answer; `answer` and `thought` (None where there was none) grow with them.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, tokens: RxTAlphaTokenizerConfig, appended: Sequence[int]
    ) -> None:
        self.columns: list[Column] = []
        self.answer = ""
        self.thought: str | None = None
        self._tokens = tokens
        self._decoder = StreamDecoder(tokenizer, skip_special_tokens=True)
        self._is_open = False
        self._is_thinking = False
        if appended:
            self._open(appended[0])

    def push(self, column: Column) -> Iterator[Piece]:
        """Take the next token and hand out the pieces that it completes."""
        if not bool(column.active[0]):
            return
        self.columns.append(column)
        token = int(column.tokens[0])
        if not self._is_open:
            self._open(token)
        elif self._is_thinking and token == self._tokens.answer_token_id:
            yield from self.flush()
            self._is_thinking = False
        else:
            yield from self._add(self._decoder.push(token))

    def flush(self) -> Iterator[Piece]:
        """Hand out what was held back as half a character."""
        yield from self._add(self._decoder.flush())

    def _open(self, token: int) -> None:
        self._is_open = True
        self._is_thinking = token == self._tokens.think_token_id
        if self._is_thinking:
            self.thought = ""

    def _add(self, text: str) -> Iterator[Piece]:
        if not text:
            return
        if self._is_thinking:
            self.thought = (self.thought or "") + text
        else:
            self.answer += text
        yield Piece(text, self._is_thinking)
