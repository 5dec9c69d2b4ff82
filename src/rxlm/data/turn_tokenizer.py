"""The turn tokenizer: makes token ids and padded batches of interactions and dialogues, and cuts what is too long.

Shapes: B rows (interactions or dialogues), T tokens of the longest row.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.batches import DialogueBatch, TurnBatch
from rxlm.data.padding import padded
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.templates import FittedTurn, InteractionTokens, fit_turn
from rxlm.data.tokenizer import encode_text
from rxlm.data.words import find_values

_logger = logging.getLogger(__name__)


class BatchTokens(InteractionTokens, Protocol):
    """Ids of the special tokens of an interaction and of padding: a model's `tokenizer_config` has them."""

    @property
    def bos_token_id(self) -> int:
        """[BOS]."""

    @property
    def pad_token_id(self) -> int:
        """[PAD]."""


class TokenizedTurn(NamedTuple):
    """An interaction as tokens.

    Fields:
        ids: token ids.
        first_target, end_of_targets: the range of the tokens to predict.
        values: positions of value tokens, and of the token after each.
    """

    ids: tuple[int, ...]
    first_target: int
    end_of_targets: int
    values: tuple[int, ...] = ()


class TurnTokenizer:
    """Makes tokens and tensors of interactions.

    An interaction longer than `max_tokens` is cut by the rule of `rxlm.data.templates.fit_turn`; special tokens stay.
    A warning is logged the first time, and `num_cut` counts them. An answer that has lost its end is followed by [EOS]
    in the ids, but this [EOS] is not a token to predict.

    Args:
        tokenizer: encodes the texts.
        tokens: ids of the special tokens: a model's `tokenizer_config`; without a model, `rxlm.rxt.text.token_ids_of`.
        max_tokens: length of the longest interaction, with special tokens.

    `num_cut` counts interactions that were too long and were cut, `num_thoughts` thoughts that were left out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, tokens: BatchTokens, *, max_tokens: int) -> None:
        self._num_special = len(tokens.before_query) + len(tokens.before_answer) + 1  # and [EOS]
        if max_tokens <= self._num_special:
            raise ValueError(
                f"max_tokens={max_tokens} must be at least {self._num_special + 1}: {self._num_special} special tokens "
                "and a text"
            )
        self.tokenizer, self.tokens, self.max_tokens = tokenizer, tokens, max_tokens
        self.num_cut = self.num_thoughts = 0
        self._encode = lru_cache(maxsize=1 << 16)(self._encode_text)  # generated texts repeat

    def encode(self, interaction: Interaction) -> TokenizedTurn:
        """Return the tokens of one interaction."""
        tokens = self.tokens
        thought = self._thought(interaction)
        thinking = () if thought is None or tokens.think_token_id is None else (tokens.think_token_id,)
        fitted = fit_turn(
            self._encode(interaction.query),
            () if thought is None else self._encode(thought),
            self._encode(interaction.answer),
            self.max_tokens - self._num_special - len(thinking),
        )
        self._tell(fitted)
        is_whole = fitted.cut[2] == 0
        start = (*tokens.before_query, *fitted.query, *thinking)
        opened = (*start, *fitted.thought, *tokens.before_answer)
        ids = (*opened, *fitted.answer, tokens.eos_token_id)
        first = len(start) if thinking else len(opened)
        end = len(fitted.answer) + is_whole
        values = tuple(len(opened) + place for place in self._value_places(interaction) if place < end)
        return TokenizedTurn(ids, first, len(opened) + end, values)

    def length(self, interaction: Interaction) -> int:
        """Return the tokens of an interaction before anything of it is cut, special tokens among them."""
        thought = None if self.tokens.think_token_id is None else interaction.thought
        texts = (interaction.query, *(() if thought is None else (thought,)), interaction.answer)
        return self._num_special + (thought is not None) + sum(len(self._encode(text)) for text in texts)

    def interaction_batch(self, interactions: Sequence[Interaction]) -> TurnBatch:
        """Return a batch of interactions, (B, T)."""
        return self._lay_out([self.encode(interaction) for interaction in interactions])

    def dialogue_batch(self, dialogues: Sequence[Dialogue]) -> DialogueBatch:
        """Return a batch of dialogues; shorter dialogues have turns of padding at the end."""
        rows = [dialogue.turns for dialogue in dialogues]
        return DialogueBatch(self.turn_batches(rows), tuple(dialogues))

    def turn_batches(self, rows: Sequence[Sequence[Interaction]]) -> tuple[TurnBatch, ...]:
        """Return one batch (B, T) for the first turns of all rows, one for the second turns, and so on."""
        encoded = [[self.encode(turn) for turn in row] for row in rows]
        return tuple(
            self._lay_out([turns[number] if number < len(turns) else _NO_TURN for turns in encoded])
            for number in range(max(map(len, rows), default=0))
        )

    def _tell(self, fitted: FittedTurn) -> None:
        """Log that an interaction was cut, the first time only: there may be millions."""
        self.num_cut += any(fitted.cut)
        if any(fitted.cut) and self.num_cut == 1:
            _logger.warning(
                "max_tokens=%d: an interaction is %d tokens too long. Cut: %d from the beginning of its query, %d from "
                "the beginning of its thought, %d from the end of its answer. Others may be cut, too.",
                *(self.max_tokens, sum(fitted.cut), *fitted.cut),
            )

    def _thought(self, interaction: Interaction) -> str | None:
        """Return the thought before an answer; a model without a thinking token is not asked for one, and has none."""
        if interaction.thought is None or self.tokens.think_token_id is not None:
            return interaction.thought
        self.num_thoughts += 1
        if self.num_thoughts == 1:
            _logger.warning("Interactions have thoughts, and the model does not think: they are left out.")
        return None

    def _value_places(self, interaction: Interaction) -> tuple[int, ...]:
        """Return the positions in the answer of value tokens, and of the token after each."""
        answer, question = interaction.answer, interaction.question
        places: list[int] = []
        for found in find_values(answer, () if question is None else question.expected):
            start, end = (len(self._encode(answer[:place].rstrip())) for place in (found.start, found.end))
            places.extend(range(start, end + 1))
        return tuple(places)

    def _encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(encode_text(self.tokenizer, text))

    def _lay_out(self, rows: Sequence[TokenizedTurn]) -> TurnBatch:
        ids, mask = padded([row.ids for row in rows], self.tokens.pad_token_id)
        places = torch.arange(ids.shape[1])
        first, end = torch.tensor([[row.first_target, row.end_of_targets] for row in rows]).T
        value_mask = torch.zeros_like(ids, dtype=torch.bool)
        for number, row in enumerate(rows):
            value_mask[number, list(row.values)] = True
        return TurnBatch(
            ids=ids,
            mask=mask,
            answer_mask=(places >= first[:, None]) & (places < end[:, None]),
            value_mask=value_mask,
        )


_NO_TURN = TokenizedTurn((), 0, 0)
