"""What a memory of tokens keeps of a conversation, and what an answer read of it, for people to look at.

Shapes: L layers, H heads, T tokens, P places.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedTokenizerFast

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.memory import MemoryState
from rxlm.rxt.chat_template import conversation_prefix
from rxlm.rxt.core import RxTModel


class Said(NamedTuple):
    """A part of a conversation: the position of its first token, and its text token by token."""

    first: int
    pieces: tuple[str, ...]

    @property
    def end(self) -> int:
        """The position after its last token."""
        return self.first + len(self.pieces)


def said(
    model: RxTModel, tokenizer: PreTrainedTokenizerFast, system: str | None, turns: Sequence[Sequence[int]]
) -> list[Said]:
    """Return a conversation as a memory of tokens has it: what stands before the first turn, and turn after turn.

    `turns` are the turns' token ids. Pieces put together are the conversation as the chat template writes it.
    """
    parts = [_head(model, tokenizer, system), *(_with_end(model, ids) for ids in turns)]
    text, found, first = StreamDecoder(tokenizer), [], 0
    for part in parts:
        found.append(Said(first, tuple(text.push(token) for token in part)))
        first += len(part)
    return found


def ends(
    model: RxTModel, tokenizer: PreTrainedTokenizerFast, system: str | None, turns: Iterable[Sequence[int]]
) -> list[int]:
    """Return where what stands before the first turn ends in a conversation, and each turn; arguments as of `said`."""
    end = model.memory_writer.config.answer_end
    lengths = (len(ids) + len(end) - (ids[-1] == end[0]) for ids in turns)
    return list(accumulate(lengths, initial=len(_head(model, tokenizer, system))))


def _head(model: RxTModel, tokenizer: PreTrainedTokenizerFast, system: str | None) -> list[int]:
    prefix = model.tokenizer_config.conversation_prefix
    return list(prefix or ()) if system is None else list(conversation_prefix(tokenizer, system))


def _with_end(model: RxTModel, ids: Sequence[int]) -> list[int]:
    """Return a turn's tokens with all that ends an answer."""
    end = model.memory_writer.config.answer_end
    return [*ids[:-1], *(() if ids[-1] == end[0] else ids[-1:]), *end]


@torch.no_grad()
def read_by_answer(
    model: RxTModel, memory: MemoryState, turn: Sequence[int], answer_tokens: int
) -> list[dict[int, float]]:
    """Return what each token of an answer read of a memory of tokens while it was written.

    Args:
        memory: of one conversation, before the turn.
        turn: the turn's token ids, of which the last `answer_tokens` are the answer.

    Returns: for each token, by position in the conversation, the share of attention, a mean over layers and heads.
    """
    ids = torch.tensor([list(turn)], device=model.device)
    past = memory.read().past
    assert past is not None
    read, mask = model.memory_writer.to_compute(memory, ids, None)
    with _Recorded() as recorded:
        model.decoder.compute_turn(past, read, mask)
    places, last = past.num_places, int(mask.sum())
    found: list[dict[int, float]] = [{} for _ in range(answer_tokens)]
    layers = [weights[0, :, last - answer_tokens : last, :places].cpu() for weights in recorded.weights]
    for layer, weights in enumerate(layers):
        grouped = weights.unflatten(0, (past.positions.shape[2], -1)).mean(1) / len(layers)  # (H, T, P)
        for head, own in enumerate(grouped / len(grouped)):
            positions = past.positions[layer, 0, head].tolist()
            for token, row in enumerate(own.tolist()):
                for position, weight in zip(positions, row, strict=True):
                    if position >= 0:
                        found[token][position] = found[token].get(position, 0.0) + weight
    return found


class _Recorded(TorchFunctionMode):
    """Notes the weights of every attention that is computed meanwhile, (B, heads, T, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.weights.append(_weights(*args[:2], **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def _weights(
    queries: Tensor, keys: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, **_: Any
) -> Tensor:
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
    scores = queries @ keys.mT / queries.shape[-1] ** 0.5
    if is_causal:
        scores = scores + torch.full_like(scores[0, 0], float("-inf")).triu(1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1)
